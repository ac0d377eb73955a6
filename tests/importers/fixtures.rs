//! Files in binary formats, written from their grammars, independently of the readers. Each holds
//! every kind of record of its format.

/// One file.
#[allow(dead_code, reason = "each test binary uses a part")]
pub(crate) struct Fixture {
    /// What people call the format.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Offsets at which a record begins, and the end.
    pub(crate) boundaries: Vec<usize>,
}

/// All of them.
pub(crate) fn all() -> Vec<Fixture> {
    vec![
        dj_trace(),
        dj_workload(),
        bytehound(),
        protobuf(),
        alk(),
        chattymalloc(),
    ]
}

fn fixture(name: &'static str, records: &[Vec<u8>]) -> Fixture {
    let mut bytes = Vec::new();
    let mut boundaries = vec![0];
    for record in records {
        bytes.extend_from_slice(record);
        boundaries.push(bytes.len());
    }
    Fixture {
        name,
        bytes,
        boundaries,
    }
}

/// A record of DJ Delorie's trace: thread, type, flags, ptr1, ptr2, size, size2.
pub(crate) fn dj_record(thread: i32, kind: u8, flags: u32, words: [u64; 4]) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend_from_slice(&thread.to_le_bytes());
    record.extend_from_slice(&(u32::from(kind) | flags << 8).to_le_bytes());
    for word in words {
        record.extend_from_slice(&word.to_le_bytes());
    }
    // size3, and two words of padding.
    record.extend_from_slice(&48_u64.to_le_bytes());
    record.resize(64, 0);
    record
}

/// "realloc became malloc/free", the seventh flag.
pub(crate) const DJ_NESTED: u32 = 1 << 6;

pub(crate) fn dj_trace() -> Fixture {
    const A: u64 = 0x7f00_0000_1000;
    const B: u64 = 0x7f00_0000_2000;
    const C: u64 = 0x7f00_0000_3000;
    let magic = {
        let mut magic = dj_record(0x5e6f_7000, 255, 0, [0x1234, 0, 8, 0]);
        magic[40..48].fill(0);
        magic
    };
    fixture(
        "dj trace",
        &[
            magic,
            dj_record(-7, 1, 1, [0, A, 100, 0]),
            dj_record(-7, 2, 0, [0, B, 96, 0]),
            // The realloc of null is a malloc inside, which is not the program's.
            dj_record(-7, 4, DJ_NESTED, [0, C, 50, 0]),
            dj_record(-7, 1, 0, [0, C, 50, 0]),
            dj_record(-7, 4, 0, [C, C, 60, 0]),
            // Thread 8 allocates A before thread -7 frees it: numbered when the calls began.
            dj_record(8, 5, 0, [0, A, 200, 64]),
            dj_record(-7, 3, 0, [A, 0, 0, 112]),
            dj_record(8, 6, 0, [0, A + 0x4000, 10, 0]),
            dj_record(8, 7, 0, [0, A + 0x8000, 20, 0]),
            // posix_memalign, once well and once with EINVAL.
            dj_record(8, 8, 0, [0, A + 0xc000, 30, 32]),
            dj_record(8, 8, 0, [22, 0xdead, 30, 3]),
            dj_record(8, 1, 0, [0, 0, 1 << 40, 0]),
            dj_record(8, 3, 0, [0, 0, 0, 0]),
            vec![0; 64],
            dj_record(8, 3, 0, [B, 0, 0, 112]),
            dj_record(8, 4, 0, [C, 0, 0, 0]),
            vec![0; 64],
            vec![0; 64],
        ],
    )
}

/// A number of seven bits a byte, the highest first.
fn high_first(number: u64) -> Vec<u8> {
    let mut bytes = vec![(number & 0x7f) as u8];
    let mut rest = number >> 7;
    while rest > 0 {
        bytes.insert(0, (rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes
}

/// An operation of a workload.
pub(crate) fn step(operation: u8, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![operation];
    for &number in numbers {
        bytes.extend(high_first(number));
    }
    bytes
}

/// A workload of these streams.
pub(crate) fn workload(blocks: u64, marks: u64, streams: &[Vec<Vec<u8>>]) -> Fixture {
    let lengths: Vec<usize> = streams.iter().map(|stream| stream.concat().len()).collect();
    let opening = |mut offset: u64| {
        let mut steps = vec![
            step(8, &[blocks]),
            step(9, &[marks]),
            step(10, &[streams.len() as u64]),
        ];
        for &length in &lengths {
            steps.push(step(11, &[offset]));
            offset += length as u64;
        }
        steps.push(step(1, &[]));
        steps
    };
    // The offsets depend on the block's length, which depends on the offsets.
    let mut length = 0;
    while opening(length).concat().len() as u64 != length {
        length = opening(length).concat().len() as u64;
    }
    let mut steps = opening(length);
    steps.extend(streams.iter().flatten().cloned());
    fixture("dj workload", &steps)
}

pub(crate) fn dj_workload() -> Fixture {
    workload(
        300,
        2,
        &[
            vec![
                step(2, &[1, 1000]),
                step(0, &[]),
                step(3, &[2, 96]),
                step(6, &[1]),
                step(4, &[299, 0, 70]),
                step(4, &[299, 299, 80]),
                step(7, &[2]),
                step(5, &[1]),
                step(5, &[0]),
                step(4, &[0, 299, 0]),
                step(1, &[]),
            ],
            vec![
                step(7, &[1]),
                step(12, &[3, 64, 200]),
                step(13, &[4, 10]),
                step(14, &[5, 20]),
                step(2, &[0, 1 << 40]),
                step(5, &[2]),
                step(6, &[2]),
                // Thread 1 frees block 1 behind mark 2, with no mark to wait for.
                step(2, &[1, 30]),
                step(1, &[]),
            ],
        ],
    )
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn bytehound() -> Fixture {
    fixture(
        "bytehound",
        &[
            words(&[2]),
            words(&[4, 0, 0, 0]),
            words(&[4, 7, 0, 0]),
            words(&[1, 0, 1_000, 100]),
            words(&[5, 0, 0, 0]),
            words(&[1, 1, 1_001, 50]),
            words(&[3, 0, 1_500, 3_000]),
            words(&[2, 1, 1_500, 0]),
            words(&[1, 1, 2_000, 0]),
            words(&[2, 0, 2_001, 0]),
            words(&[5, 0, 0, 0]),
            words(&[0]),
        ],
    )
}

/// A protocol buffer's number, seven bits a byte, the lowest first.
pub(crate) fn low_first(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn delimited(field: u64, content: &[u8]) -> Vec<u8> {
    [
        low_first(field << 3 | 2),
        low_first(content.len() as u64),
        content.to_vec(),
    ]
    .concat()
}

/// A `TraceLine`: the field of the call (1 malloc, 2 free, 3 realloc, 4 calloc) and its numbers.
pub(crate) fn trace_line(call: u64, numbers: [Option<u64>; 3]) -> Vec<u8> {
    let mut message = Vec::new();
    for (index, number) in numbers.into_iter().enumerate() {
        if let Some(number) = number {
            message.extend(low_first((index as u64 + 1) << 3));
            message.extend(low_first(number));
        }
    }
    delimited(1, &delimited(call, &message))
}

/// The field `max_simultaneous_allocs`.
pub(crate) fn allocations_max(number: u64) -> Vec<u8> {
    [low_first(2 << 3), low_first(number)].concat()
}

pub(crate) fn protobuf() -> Fixture {
    fixture(
        "protobuf",
        &[
            trace_line(1, [Some(0), Some(100), None]),
            trace_line(1, [Some(1), Some(200), Some(64)]),
            trace_line(4, [Some(2), Some(3), Some(70_000)]),
            trace_line(3, [Some(3), Some(0), Some(50)]),
            trace_line(3, [Some(0), None, Some(60)]),
            trace_line(2, [Some(1), Some(200), Some(64)]),
            trace_line(2, [Some(2), None, None]),
            trace_line(2, [None, None, None]),
            trace_line(1, [None, Some(1 << 40), None]),
            trace_line(1, [Some(1), None, None]),
            allocations_max(4),
        ],
    )
}

/// An instruction of alk.
pub(crate) fn instruction(kind: u64, register: u64, first: u64, second: u64) -> Vec<u8> {
    words(&[kind | register << 8, first, second])
}

pub(crate) fn alk() -> Fixture {
    fixture(
        "alk",
        &[
            instruction(5, 0, 4711, 0),
            instruction(7, 0, 1_600_000_000_000_000_000, 3),
            instruction(0, 0, 100, 0xdead),
            instruction(3, 1, 200, 64),
            instruction(4, 0, 2, 300),
            instruction(5, 0, 12, 0),
            instruction(2, 1, 200, 0),
            instruction(0, 0, 0, 0),
            instruction(6, 0, 0, 0),
            instruction(5, 0, 4711, 0),
            instruction(1, 2, 0, 0),
        ],
    )
}

/// A record of chattymalloc: thread, function, ptr, size, var_arg.
pub(crate) fn chatty_record(
    thread: i32,
    function: u8,
    pointer: u64,
    size: u64,
    argument: u64,
) -> Vec<u8> {
    let mut record = words(&[0, 120, pointer, size, argument]);
    record.extend_from_slice(&thread.to_le_bytes());
    record.push(function);
    record
}

pub(crate) fn chattymalloc() -> Fixture {
    const A: u64 = 0x5581_0000_1000;
    let mut ended = chatty_record(42, 10, 0, 0, 0);
    ended[8] = 0;
    fixture(
        "chattymalloc",
        &[
            // The tool began its file anew: records are unused, and an allocation is lost.
            vec![0; 45],
            vec![0; 45],
            chatty_record(42, 2, A + 0x9000, 0, 0),
            chatty_record(42, 1, A, 100, 0),
            chatty_record(42, 4, A + 0x1000, 24, 4),
            chatty_record(42, 3, A + 0x2000, 50, 0),
            // Thread 43 gets A, which thread 42's realloc gives up, and frees it, before that
            // realloc is written.
            chatty_record(43, 1, A, 70, 0),
            chatty_record(43, 2, A, 0, 0),
            chatty_record(42, 3, A + 0x3000, 5_000, A),
            chatty_record(43, 5, A + 0x4000, 10, 32),
            chatty_record(43, 6, A + 0x5000, 20, 64),
            chatty_record(43, 7, A + 0x6000, 30, 0),
            chatty_record(43, 8, A + 0x7000, 40, 0),
            chatty_record(43, 9, A + 0x8000, 128, 128),
            chatty_record(43, 1, 0, 1 << 40, 0),
            chatty_record(43, 2, 0, 0, 0),
            ended,
            chatty_record(43, 2, A + 0x1000, 0, 0),
            chatty_record(43, 3, 0, 0, A + 0x2000),
            vec![0; 45],
        ],
    )
}
