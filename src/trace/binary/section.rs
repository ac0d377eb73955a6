//! Sections: a tag, a length, a checksum, a body.

use std::io::Read;

use super::layout::{BODY_BYTES_MAX, TAG_CHUNK, TAG_END, TAG_INDEX, TAG_META};

/// Bytes before the body.
pub(super) const HEADER_BYTES: usize = 12;

/// Appends a section.
pub(super) fn put(tag: [u8; 4], body: &[u8], out: &mut Vec<u8>) {
    let bytes = u32::try_from(body.len()).expect("a section is far below 4 GiB");
    out.extend_from_slice(&tag);
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(&check(tag, bytes, body).to_le_bytes());
    out.extend_from_slice(body);
}

fn check(tag: [u8; 4], bytes: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag);
    hasher.update(&bytes.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Why there is no further section.
#[derive(Debug)]
pub(super) enum Missing {
    /// Nothing follows.
    Nothing,
    /// Something else does, or not enough of it.
    Damaged(&'static str),
    /// The source failed.
    Io(std::io::Error),
}

/// Reads the next section's tag and its body into `body`.
pub(super) fn next(source: &mut impl Read, body: &mut Vec<u8>) -> Result<[u8; 4], Missing> {
    let mut header = [0; HEADER_BYTES];
    match fill(source, &mut header).map_err(Missing::Io)? {
        0 => return Err(Missing::Nothing),
        HEADER_BYTES => {}
        _ => return Err(Missing::Damaged("the file ends in it")),
    }
    let (tag, bytes, expected) = parts(&header);
    if ![TAG_CHUNK, TAG_META, TAG_INDEX, TAG_END].contains(&tag) {
        return Err(Missing::Damaged("no section begins here"));
    }
    if bytes as usize > BODY_BYTES_MAX {
        return Err(Missing::Damaged("it claims to be longer than any section"));
    }
    body.clear();
    // Memory grows with what is there, not with what is claimed.
    let mut limited = source.by_ref().take(u64::from(bytes));
    limited.read_to_end(body).map_err(Missing::Io)?;
    if body.len() < bytes as usize {
        return Err(Missing::Damaged("the file ends in it"));
    }
    if check(tag, bytes, body) != expected {
        return Err(Missing::Damaged("its checksum does not match"));
    }
    Ok(tag)
}

/// Tag, length and checksum.
pub(super) fn parts(header: &[u8; HEADER_BYTES]) -> ([u8; 4], u32, u32) {
    let [a, b, c, d, ..] = *header;
    ([a, b, c, d], u32_at(header, 4), u32_at(header, 8))
}

/// Reads until `out` is full or nothing follows. Returns the bytes read.
pub(super) fn fill(source: &mut impl Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match source.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A number in bytes that are known to be there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The same of eight bytes.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
