//! Files that were altered, made whole again where a checksum or a unit of 16 KiB would keep the
//! alterations from all but the first lines of a parser.

use mymalloc::trace::wire::{self, CHUNK_MAGIC, UNIT_BYTES, VERSION};

/// Bytes of the head of a binary trace, and of the head of a section in it.
const HEAD_BYTES: usize = 16;
const SECTION_HEAD_BYTES: usize = 12;
/// In a chunk: its head, and that of a column.
const CHUNK_HEAD_BYTES: usize = 24;
const COLUMN_HEAD_BYTES: usize = 12;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A binary trace whose sections have the right checksums, whatever they hold. A section that claims
/// more bytes than there are takes all.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = HEAD_BYTES;
    while at + SECTION_HEAD_BYTES <= bytes.len() {
        let rest = bytes.len() - at - SECTION_HEAD_BYTES;
        let length = rest.min(u32_at(&bytes, at + 4) as usize);
        let claimed = u32::try_from(length).unwrap_or(u32::MAX);
        bytes[at + 4..at + 8].copy_from_slice(&claimed.to_le_bytes());
        let body = at + SECTION_HEAD_BYTES;
        let mut check = crc32fast::Hasher::new();
        check.update(&bytes[at..at + 8]);
        check.update(&bytes[body..body + length]);
        bytes[at + 8..at + 12].copy_from_slice(&check.finalize().to_le_bytes());
        at = body + length;
    }
    bytes
}

/// A good binary trace with columns that are not compressed, so that altering a byte alters a number.
pub(crate) fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes[..HEAD_BYTES].to_vec();
    let mut at = HEAD_BYTES;
    let mut index_at = None;
    while at + SECTION_HEAD_BYTES <= bytes.len() {
        let tag = &bytes[at..at + 4];
        let end = at + SECTION_HEAD_BYTES + u32_at(bytes, at + 4) as usize;
        let body = &bytes[at + SECTION_HEAD_BYTES..end];
        let mut body = match tag {
            b"CHNK" => unpacked_chunk(body),
            _ => body.to_vec(),
        };
        match tag {
            b"INDX" => index_at = Some(out.len() as u64),
            b"ENDS" => body[..8].copy_from_slice(&index_at.unwrap_or(0).to_le_bytes()),
            _ => {}
        }
        out.extend_from_slice(tag);
        let length = u32::try_from(body.len()).expect("a seed is small");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body);
        at = end;
    }
    sealed(&out)
}

fn unpacked_chunk(body: &[u8]) -> Vec<u8> {
    let mut out = body[..CHUNK_HEAD_BYTES].to_vec();
    let mut rest = &body[CHUNK_HEAD_BYTES..];
    while rest.len() >= COLUMN_HEAD_BYTES {
        let (id, raw, stored) = (u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8) as usize);
        let (column, behind) = rest[COLUMN_HEAD_BYTES..].split_at(stored);
        let column = match raw as usize == stored {
            true => column.to_vec(),
            false => zstd::bulk::decompress(column, raw as usize).expect("a good trace"),
        };
        for number in [id, raw, raw] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&column);
        rest = behind;
    }
    out
}

/// The fields of a recorder's header that an altered file chooses.
const FIELDS: std::ops::Range<usize> = wire::header::FLAGS..wire::header::FLAGS + 124;

/// Chunks of a recorder's file that are made at most.
const CHUNKS_MAX: usize = 6;

/// A recorder's file made of few bytes: those of the header's numbers, then for each chunk two bytes
/// that tell how many follow, and its words.
pub(crate) fn recorded(compact: &[u8]) -> Vec<u8> {
    let mut file = vec![0; UNIT_BYTES];
    file[..8].copy_from_slice(&wire::MAGIC);
    file[wire::header::VERSION..][..4].copy_from_slice(&VERSION.to_le_bytes());
    let (fields, mut rest) = compact.split_at(compact.len().min(FIELDS.len()));
    file[FIELDS.start..][..fields.len()].copy_from_slice(fields);
    for _ in 0..CHUNKS_MAX {
        let Some((length, behind)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (words, behind) = behind.split_at(length.min(UNIT_BYTES - wire::CHUNK_HEADER_BYTES));
        rest = behind;
        let start = file.len();
        file.extend_from_slice(&CHUNK_MAGIC.to_le_bytes());
        file.extend_from_slice(&1_u32.to_le_bytes());
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(words);
        file.resize(start + UNIT_BYTES, 0);
    }
    file
}

/// What [`recorded`] makes such chunks of.
pub(crate) fn compact(flags: u32, chunks: &[Vec<u64>]) -> Vec<u8> {
    let mut out = vec![0; FIELDS.len()];
    out[..4].copy_from_slice(&flags.to_le_bytes());
    let page = wire::header::PAGE_BYTES - FIELDS.start;
    out[page..page + 8].copy_from_slice(&4096_u64.to_le_bytes());
    for words in chunks {
        let length = u16::try_from(words.len() * 8).expect("a seed is small");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    out
}
