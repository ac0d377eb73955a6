//! Alterations of files, the same for the same seed on every machine.

/// A generator of numbers that is the same everywhere (a 64-bit congruential one, upper half).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `below`; 0 if that is 0.
    pub(crate) fn next(&mut self, below: usize) -> usize {
        (self.word() % below.max(1) as u64) as usize
    }

    /// 31 bits.
    fn word(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
}

/// Numbers at which counters and sizes go wrong.
const LARGE: [u64; 12] = [
    0x7f,
    0xff,
    1 << 16,
    u32::MAX as u64,
    1 << 32,
    1 << 47,
    (1 << 47) + 1,
    1 << 48,
    1 << 60,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// A copy with some bytes set, flipped, taken out, put in or repeated, cut off, with a piece of another
/// file, or with a large number, in text or binary.
pub(crate) fn mutate(bytes: &[u8], others: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + numbers.next(4) {
        let at = numbers.next(bytes.len());
        let end = (at + 1 + numbers.next(70)).min(bytes.len());
        match numbers.next(11) {
            _ if bytes.is_empty() => bytes.push(8),
            0 | 1 => bytes[at] ^= 1 << numbers.next(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b' '][numbers.next(7)],
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let end = (at + 8).min(bytes.len());
                bytes[at..end].fill([0, 0xff][numbers.next(2)]);
            }
            6 => bytes.truncate(at),
            7 => bytes.insert(at, numbers.next(256) as u8),
            8 => {
                let large = LARGE[numbers.next(LARGE.len())];
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&large.to_le_bytes()[..end - at]);
            }
            9 => {
                // The number that stands there becomes a large one.
                let large = LARGE[numbers.next(LARGE.len())];
                let digits = bytes[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_hexdigit());
                let end = at + digits.count();
                let text = match numbers.next(2) {
                    0 => format!("{large}"),
                    _ => format!("{large:x}"),
                };
                drop(bytes.splice(at..end, text.into_bytes()));
            }
            _ => {
                let other = others.get(numbers.next(others.len()));
                let other = other.map_or(&[][..], Vec::as_slice);
                let from = numbers.next(other.len());
                let to = (from + 1 + numbers.next(500)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}
