//! Systems that lack what the recorder would rather use.

use super::Recorder;

/// Has every `madvise(MADV_WIPEONFORK)` of the program refused, as by a kernel before 4.14.
fn refuse_wiping() -> std::io::Result<()> {
    const WIPE_ON_FORK: u32 = 18;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, if_true, if_false, k| libc::sock_filter {
        code,
        jt: if_true,
        jf: if_false,
        k,
    };
    // Of `struct seccomp_data`: the call's number, and the low half of its third argument.
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 3, libc::SYS_madvise as u32),
        step(LOAD, 0, 0, 16 + 2 * 8),
        step(JUMP_IF_EQUAL, 0, 1, WIPE_ON_FORK),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the program lives as long as the call, which copies it.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[test]
fn children_are_recorded_where_the_system_does_not_wipe_memory_on_fork() {
    for scene in [&["forks"][..], &["forks_beside_threads", "5"]] {
        let recorder = Recorder::new("follow").prepare(|command| {
            use std::os::unix::process::CommandExt as _;
            // SAFETY: system calls alone, between fork and exec.
            unsafe { command.pre_exec(refuse_wiping) };
        });
        let recording = recorder.scene(scene).succeeded();
        let wires = recording.wires();
        assert_eq!(wires.len(), if scene.len() == 1 { 2 } else { 6 });
        let (children, parents): (Vec<_>, Vec<_>) =
            wires.iter().partition(|wire| wire.parent() != 0);
        assert_eq!(parents.len(), 1);
        for child in &children {
            assert_eq!(
                child.mallocs(202) + child.mallocs(301),
                match scene.len() {
                    1 => 3000,
                    _ => 1000,
                }
            );
            assert_eq!((child.missing(), child.ended_ns() > 0), (0, true));
        }
        assert_eq!(parents[0].mallocs(202) + parents[0].mallocs(301), 0);
        parents[0].check_blocks(0);
    }
}
