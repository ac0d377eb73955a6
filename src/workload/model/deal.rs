//! Which births of a phase fall into which of its windows.
//!
//! Their number in each is given. Blocks that last beyond a window are dealt so that the bytes of each
//! window are as recorded, the largest first; the others fill up what is left.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Equal births in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Index of the cell.
    pub(super) cell: u32,
    /// How many.
    pub(super) length: u64,
    /// Bytes of each, if it lasts beyond a window; else 0.
    pub(super) lasting_bytes: u64,
}

/// The runs of each window, cut where a window is full. `births` have the same sum as the runs'
/// lengths; `lasting_bytes` may be empty: then nothing but the number counts.
pub(super) fn deal(runs: Vec<Run>, births: &[u64], lasting_bytes: &[u64]) -> Vec<Vec<Run>> {
    let mut windows: Vec<Vec<Run>> = vec![Vec::new(); births.len()];
    let mut room = births.to_vec();
    let by_bytes = |run: &Run| !lasting_bytes.is_empty() && run.lasting_bytes > 0;
    let (mut lasting, others): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(by_bytes);
    // Stable: equal ones stay shuffled.
    lasting.sort_by_key(|run| Reverse(run.lasting_bytes));
    let wanted: u128 = lasting_bytes.iter().map(|bytes| u128::from(*bytes)).sum();
    let held: u128 = lasting.iter().map(Run::bytes).sum();
    // Cells that were joined have other bytes than was counted: the windows share what there is.
    let share = held as f64 / wanted.max(1) as f64;
    let mut wanting: BinaryHeap<(i128, Reverse<usize>)> = lasting_bytes
        .iter()
        .enumerate()
        .filter(|(window, _)| room[*window] > 0)
        .map(|(window, bytes)| ((*bytes as f64 * share) as i128, Reverse(window)))
        .collect();
    for mut run in lasting {
        while run.length > 0 {
            let (missing, Reverse(window)) = wanting.pop().expect("there is room for each birth");
            let part = run.cut(run.length.min(room[window]));
            room[window] -= part.length;
            if room[window] > 0 {
                wanting.push((missing - part.bytes() as i128, Reverse(window)));
            }
            windows[window].push(part);
        }
    }
    let mut window = 0;
    for mut run in others {
        while run.length > 0 {
            while room[window] == 0 {
                window += 1;
            }
            let part = run.cut(run.length.min(room[window]));
            room[window] -= part.length;
            windows[window].push(part);
        }
    }
    windows
}

impl Run {
    fn bytes(&self) -> u128 {
        u128::from(self.lasting_bytes) * u128::from(self.length)
    }

    /// Takes so many off.
    fn cut(&mut self, length: u64) -> Self {
        self.length -= length;
        Self { length, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cell: u32, length: u64, lasting_bytes: u64) -> Run {
        Run {
            cell,
            length,
            lasting_bytes,
        }
    }

    fn lengths(windows: &[Vec<Run>]) -> Vec<u64> {
        let sum = |runs: &Vec<Run>| runs.iter().map(|run| run.length).sum();
        windows.iter().map(sum).collect()
    }

    #[test]
    fn each_window_gets_its_number_and_its_bytes() {
        let mut runs: Vec<Run> = (0..400).map(|_| run(0, 1, 100)).collect();
        runs.extend((0..10).map(|_| run(1, 1, 10_000)));
        runs.extend((0..590).map(|_| run(2, 1, 0)));
        let births = [250, 250, 0, 250, 250];
        let bytes = [100_000_u64, 0, 0, 30_000, 10_000];
        let windows = deal(runs, &births, &bytes);
        assert_eq!(lengths(&windows), births);
        for (runs, wanted) in windows.iter().zip(bytes) {
            let held: u128 = runs.iter().map(Run::bytes).sum();
            assert!(
                held.abs_diff(u128::from(wanted)) <= 200,
                "{held} for {wanted}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_goes_where_there_is_room() {
        // All bytes in a window for one birth; of runs longer than any window.
        let windows = deal(vec![run(0, 7, 64), run(1, 3, 0)], &[1, 4, 5], &[1000, 0, 0]);
        assert_eq!(lengths(&windows), [1, 4, 5]);
        let none = deal(vec![run(0, 7, 64), run(1, 3, 0)], &[1, 4, 5], &[]);
        assert_eq!(lengths(&none), [1, 4, 5]);
        assert_eq!(none[0], [run(0, 1, 64)]);
        assert!(deal(Vec::new(), &[0, 0], &[0, 0]).iter().all(Vec::is_empty));
    }
}
