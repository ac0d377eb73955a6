//! The highest of what a memory pass saw: between calls by its samples, and at any moment by the
//! kernel's high-water mark, which sees what is copied inside a call as well.

use super::resident::{Gauge, Reading};

/// Memory within this of the highest counts as the highest when the operation to look at is chosen:
/// the kernel's counters are no more exact than that.
const TIE_BYTES: u64 = 64 << 10;
const TIE_PART: u64 = 128;

/// See the module text. Memory is that of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Peak {
    /// The reading that was highest.
    pub highest: Reading,
    /// The most at any moment that was seen, inside calls too.
    pub at_most_bytes: u64,
    /// 1 if every moment was seen: the kernel lets its high-water mark be used.
    pub sees_every_moment: u64,
    /// Operations performed at the moment that shows the peak best: of all with as much memory as at
    /// the highest, or nearly, the one with most live bytes. An allocator whose memory never
    /// changes would otherwise be looked at before its first operation.
    pub operation: u64,
    /// Memory then.
    held_bytes: u64,
    /// Live bytes then.
    live_bytes: u64,
}

impl Peak {
    /// At the beginning.
    pub fn new(gauge: &Gauge) -> Self {
        let mut peak = Self::default();
        peak.note(gauge, &gauge.start(), 0, 0);
        peak
    }

    /// Takes in a reading that was taken while threads were inside calls.
    pub fn note_inside(&mut self, gauge: &Gauge, reading: &Reading) {
        let at_most = gauge.held_at_most_bytes(reading);
        self.sees_every_moment = u64::from(at_most.is_some());
        let bytes = at_most.unwrap_or(0).max(reading.held_bytes());
        self.at_most_bytes = self.at_most_bytes.max(bytes);
    }

    /// Takes in a reading of the thread that allocates, between its calls.
    pub fn note(&mut self, gauge: &Gauge, reading: &Reading, operation: u64, live_bytes: u64) {
        self.note_inside(gauge, reading);
        let held_bytes = reading.held_bytes();
        if held_bytes > self.highest.held_bytes() {
            self.highest = *reading;
        }
        self.choose(held_bytes, operation, live_bytes);
    }

    fn choose(&mut self, held_bytes: u64, operation: u64, live_bytes: u64) {
        let highest = self.highest.held_bytes();
        let limit = highest - TIE_BYTES.min(highest / TIE_PART);
        let is_near = |bytes: u64| bytes >= limit;
        if is_near(held_bytes) && (live_bytes > self.live_bytes || !is_near(self.held_bytes)) {
            (self.held_bytes, self.operation, self.live_bytes) =
                (held_bytes, operation, live_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation_of(moments: &[(u64, u64)]) -> u64 {
        let mut peak = Peak::default();
        for ((held_bytes, live_bytes), operation) in moments.iter().zip(0..) {
            let reading = Reading::of_private(*held_bytes);
            if *held_bytes > peak.highest.held_bytes() {
                peak.highest = reading;
            }
            peak.choose(*held_bytes, operation, *live_bytes);
        }
        peak.operation
    }

    #[test]
    fn of_equal_peaks_the_one_with_most_live_bytes_is_chosen() {
        let mib = 1 << 20;
        // Flat: the whole replay is the peak.
        assert_eq!(operation_of(&[(4 * mib, 0), (4 * mib, 9), (4 * mib, 5)]), 1);
        // A page more with hardly anything live is the same peak.
        let nearly = [(4 * mib, 10), (4 * mib + 4096, 1)];
        assert_eq!(operation_of(&nearly), 0);
        // A true peak is chosen, whatever was live.
        assert_eq!(operation_of(&[(4 * mib, 10), (5 * mib, 1)]), 1);
        // Creeping up in small steps, it is followed.
        let creeping: Vec<(u64, u64)> = (0..100).map(|n| (4 * mib + n * 8192, 100 - n)).collect();
        assert!(operation_of(&creeping) > 90);
    }
}
