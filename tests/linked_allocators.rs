//! The allocators that are linked into the suite, those behind features among them: that each keeps the contract of the
//! C standard, tells its version, and replaces nobody's `malloc`. (In a program of its own: to build the library's own
//! tests once more for each set of features takes minutes.)

use core::ffi::c_void;

use mymalloc::subject::catalogue::Catalogue;
use mymalloc::subject::functions::Functions;
use mymalloc::subject::linked::{FEATURES, Linked};

#[test]
fn a_subject_of_a_feature_is_offered_or_says_which_one() {
    let catalogue = Catalogue::load().expect("valid");
    for (name, built) in FEATURES {
        let selected = catalogue.select(Some(&[name.to_owned()]), &[], "system");
        match selected {
            Ok(_) => assert!(built, "{name}"),
            Err(error) => {
                assert!(!built, "{name}: {error}");
                let text = error.to_string();
                assert!(
                    text.contains(&format!("cargo run --features {name}")),
                    "{text}"
                );
            }
        }
    }
    // An object that would be hidden by a build with more features is refused in every build.
    let extra = ["talc=/lib/x.so".to_owned()];
    assert!(catalogue.select(None, &extra, "system").is_err());
}

#[test]
fn linked_versions_are_told() {
    let mimalloc = Linked::Mimalloc
        .version()
        .expect("mimalloc tells its version");
    assert!(mimalloc.starts_with(['2', '3']), "{mimalloc}");
    let jemalloc = Linked::Jemalloc
        .version()
        .expect("jemalloc tells its version");
    assert!(jemalloc.starts_with("5."), "{jemalloc}");
}

#[test]
fn linked_allocators_do_not_replace_malloc() {
    let system = Functions::resolved().expect("the C library has them all");
    let names = [
        "mymalloc", "pagelist", "mimalloc", "jemalloc", "snmalloc", "rpmalloc", "dlmalloc", "talc",
    ];
    let mut seen = 0;
    for linked in names.into_iter().filter_map(Linked::from_name) {
        seen += 1;
        for address in linked.functions().addresses() {
            assert!(!system.addresses().contains(&address), "{linked:?}");
        }
    }
    let built = FEATURES.iter().filter(|(_, built)| *built).count();
    assert_eq!(seen, 4 + built);
    // And the C library still serves the usual names, in this program that links them all.
    for address in system.addresses() {
        // SAFETY: a structure of pointers, for which zeroes are valid, with room for the answer.
        let path = unsafe {
            let mut object: libc::Dl_info = core::mem::zeroed();
            assert_ne!(libc::dladdr(address, &raw mut object), 0);
            core::ffi::CStr::from_ptr(object.dli_fname).to_string_lossy()
        };
        assert!(path.contains("libc"), "{path}");
    }
}

/// What `Cargo.toml` says is what is linked: exact versions.
#[test]
fn versions_told_are_those_of_the_manifest() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("TOML");
    for linked in FEATURES
        .iter()
        .filter_map(|(name, _)| Linked::from_name(name))
    {
        let told = linked.version().expect("a version");
        let (name, version) = told
            .strip_prefix("crate ")
            .and_then(|crate_| crate_.split_once(' '))
            .expect("a crate and its version");
        let wanted = manifest["dependencies"][name]["version"].as_str();
        assert_eq!(wanted, Some(format!("={version}").as_str()), "{name}");
    }
}

/// Each function of each linked allocator, by the contract of the C standard.
#[test]
fn linked_allocators_keep_the_contract() {
    let names = [
        "mymalloc", "pagelist", "mimalloc", "jemalloc", "snmalloc", "rpmalloc", "dlmalloc", "talc",
    ];
    for linked in names.into_iter().filter_map(Linked::from_name) {
        let threads: Vec<_> = (1..=4)
            .map(|seed| std::thread::spawn(move || keep_contract(linked, seed)))
            .collect();
        for thread in threads {
            thread.join().expect("the contract is kept");
        }
    }
}

fn keep_contract(linked: Linked, seed: u8) {
    let functions = linked.functions();
    let aligned = |block: *mut c_void, alignment: usize| {
        assert!(!block.is_null(), "{linked:?}");
        assert_eq!(block as usize % alignment, 0, "{linked:?}");
    };
    for round in 0..200_usize {
        let size = 1 + round * 37 % 5000 + (round % 50 / 49) * 400_000;
        // SAFETY: blocks are used within their sizes and released once.
        unsafe {
            let block = (functions.malloc)(size).cast::<u8>();
            aligned(block.cast(), 16.min(size.next_power_of_two()));
            let usable = (functions.malloc_usable_size)(block.cast());
            assert!(usable >= size, "{linked:?}: {usable} of {size}");
            block.write_bytes(seed, usable);
            let zeroed = (functions.calloc)(size, 3).cast::<u8>();
            let all = core::slice::from_raw_parts(zeroed, 3 * size);
            assert!(all.iter().all(|byte| *byte == 0), "{linked:?}");
            let grown = (functions.realloc)(block.cast(), 2 * size).cast::<u8>();
            let kept = core::slice::from_raw_parts(grown, size);
            assert!(kept.iter().all(|byte| *byte == seed), "{linked:?}");
            let shrunk = (functions.realloc)(grown.cast(), size / 2 + 1).cast::<u8>();
            assert_eq!((*shrunk, *shrunk.add(size / 2)), (seed, seed), "{linked:?}");
            let alignment = 16 << (round % 9);
            let mut place = core::ptr::null_mut();
            assert_eq!(
                (functions.posix_memalign)(&raw mut place, alignment, size),
                0
            );
            aligned(place, alignment);
            place.cast::<u8>().write_bytes(seed, size);
            let other = (functions.aligned_alloc)(alignment, alignment);
            aligned(other, alignment);
            for block in [
                shrunk.cast(),
                zeroed.cast(),
                place,
                other,
                core::ptr::null_mut(),
            ] {
                (functions.free)(block);
            }
        }
    }
}
