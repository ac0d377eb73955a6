//! Each event is read once, wherever a process, or whoever copied its windows, was killed.

use super::tests::read_bytes;
use super::writer::{Writer, free, malloc};
use crate::trace::wire::{
    UNIT_BYTES, WINDOW_COPYING, WINDOW_FREE, WINDOW_FULL, WINDOW_OWNED, header as at, window_state,
};

/// Three events in a window, which was copied.
fn copied(turn: u64, state: u64) -> Writer {
    let mut writer = Writer::new();
    writer.event(0, &malloc(1, 0x10), None, 0);
    writer.event(0, &malloc(2, 0x20), None, 0);
    writer.event(0, &free(0x10), None, 0);
    writer.copy_first(0);
    writer.first_is_window(turn, state);
    writer
}

/// All three events and as many more are there, and nothing is said of them.
fn reads(writer: &Writer, more: u64) {
    let trace = read_bytes(&writer.bytes(), false).expect("sound");
    assert_eq!(trace.counts().operations(), 3 + more);
    assert!(trace.origin().warnings.is_empty());
}

#[test]
fn either_a_window_or_its_copy_is_read() {
    for state in [WINDOW_OWNED, WINDOW_FULL, WINDOW_COPYING] {
        reads(&copied(0, state), 0);
    }
    reads(&copied(1, WINDOW_FREE), 0);
    // It went on, and was copied once more.
    let mut writer = copied(1, WINDOW_OWNED);
    writer.reuse_first(0);
    writer.event(0, &free(0x20), None, 0);
    reads(&writer, 1);
    writer.copy_first(1);
    reads(&writer, 1);
    writer.first_is_window(2, WINDOW_FREE);
    reads(&writer, 1);
    // Void words stay in a window until it is used again.
    writer.first_is_window(1 << 40, WINDOW_FREE);
    reads(&writer, 1);
}

#[test]
fn a_copy_that_was_begun_is_passed_over_whatever_it_holds() {
    let writer = copied(0, WINDOW_COPYING);
    let whole = writer.bytes();
    // Its header was written, and nothing behind; then another chunk was.
    let mut bytes = whole.clone();
    bytes[2 * UNIT_BYTES + 16..].fill(0);
    assert_eq!(read_bytes(&bytes, false).expect("sound").events().len(), 3);
    bytes[2 * UNIT_BYTES + 16..].fill(0xee);
    assert_eq!(read_bytes(&bytes, false).expect("sound").events().len(), 3);
    bytes.truncate(2 * UNIT_BYTES + 100);
    assert_eq!(read_bytes(&bytes, false).expect("sound").events().len(), 3);
    // Not even that.
    let mut bytes = whole;
    bytes[2 * UNIT_BYTES..].fill(0);
    assert_eq!(read_bytes(&bytes, false).expect("sound").events().len(), 3);
}

#[test]
fn a_damaged_table_is_told_as_missing_events() {
    let mut writer = copied(1, WINDOW_FREE);
    writer.event(1, &malloc(3, 0x30), None, 0);
    reads(&writer, 1);
    for (field, value) in [
        (at::WINDOWS, window_state(0, WINDOW_FREE)),
        (at::WINDOWS, 0),
    ] {
        writer.wide(field, value);
        let error = read_bytes(&writer.bytes(), false)
            .expect_err("void")
            .to_string();
        assert!(error.contains("3 events are missing"), "{error}");
        let trace = read_bytes(&writer.bytes(), true).expect("lenient");
        assert_eq!(trace.counts().operations(), 1);
    }
}
