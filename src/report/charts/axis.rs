//! Scales and the round numbers beside them.

#![forbid(unsafe_code)]

/// Maps values to positions on a sheet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Position of `low`.
    pub(crate) start: f64,
    /// Position of `high`.
    pub(crate) end: f64,
    pub(crate) is_log: bool,
}

impl Scale {
    /// A linear scale from 0; an empty range is widened, so that every position is defined.
    pub(crate) fn from_zero(high: f64, start: f64, end: f64) -> Self {
        let high = if high.is_finite() && high > 0.0 {
            high
        } else {
            1.0
        };
        Self {
            low: 0.0,
            high,
            start,
            end,
            is_log: false,
        }
    }

    /// A linear scale around values that lie close together; `low < high`, both positive.
    pub(crate) fn around(low: f64, high: f64, start: f64, end: f64) -> Self {
        let margin = ((high - low) * 0.3).max(high * 0.04);
        Self {
            low: (low - margin).max(0.0),
            high: high + margin,
            start,
            end,
            is_log: false,
        }
    }

    /// A logarithmic scale; both ends positive.
    pub(crate) fn log(low: f64, high: f64, start: f64, end: f64) -> Self {
        let low = if low.is_finite() && low > 0.0 {
            low
        } else {
            1.0
        };
        let high = if high.is_finite() && high > low {
            high
        } else {
            low * 10.0
        };
        Self {
            low,
            high,
            start,
            end,
            is_log: true,
        }
    }

    /// The position of a value, kept within the scale.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if value.is_nan() {
            self.low
        } else {
            value.clamp(self.low, self.high)
        };
        let share = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.start + share * (self.end - self.start)
    }
}

/// Round decimal numbers from 0 up to `high`, about `wanted` of them.
pub(crate) fn decimal_ticks(high: f64, wanted: usize) -> Vec<f64> {
    decimal_ticks_between(0.0, high, wanted)
}

/// Round decimal numbers from `low` to `high`, about `wanted` of them.
pub(crate) fn decimal_ticks_between(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    if !(high.is_finite() && high > low && low >= 0.0) {
        return vec![0.0];
    }
    let raw = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&step| step >= raw * 0.999);
    multiples(step.unwrap_or(10.0 * power), low, high)
}

/// Powers of two and their multiples from 0 up to `high` bytes.
pub(crate) fn byte_ticks(high: f64, wanted: usize) -> Vec<f64> {
    byte_ticks_between(0.0, high, wanted)
}

/// Powers of two and their multiples from `low` to `high` bytes.
pub(crate) fn byte_ticks_between(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    if !(high.is_finite() && high > low && low >= 0.0) {
        return vec![0.0];
    }
    let raw = ((high - low) / wanted.max(1) as f64).max(1.0);
    multiples(2f64.powf(raw.log2().ceil()), low, high)
}

fn multiples(step: f64, low: f64, high: f64) -> Vec<f64> {
    let first = (low / step).ceil();
    (0..=64)
        .map(|n| (first + f64::from(n)) * step)
        .take_while(|&tick| tick <= high * 1.0001)
        .collect()
}

/// Round numbers of a logarithmic scale: 1, 2, 5 times powers of ten, thinned to about `wanted`.
pub(crate) fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let within = |multipliers: &[f64]| -> Vec<f64> {
        (first..=last)
            .flat_map(|power| multipliers.iter().map(move |m| m * 10f64.powi(power)))
            .filter(|&tick| tick >= low * 0.999 && tick <= high * 1.001)
            .collect()
    };
    let fine = within(&[1.0, 2.0, 5.0]);
    if fine.len() <= wanted {
        return fine;
    }
    let coarse = within(&[1.0]);
    let every = coarse.len().div_ceil(wanted.max(1)).max(1);
    coarse.into_iter().step_by(every).collect()
}

/// Moves wished positions apart until each is at least `gap` from the next, all within
/// `low..=high` as far as there is room; order is kept. Used for labels at line ends.
pub(crate) fn spread(wishes: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|&a, &b| wishes[a].total_cmp(&wishes[b]));
    let mut placed: Vec<f64> = order
        .iter()
        .map(|&index| wishes[index].clamp(low, high))
        .collect();
    for n in 1..placed.len() {
        placed[n] = placed[n].max(placed[n - 1] + gap);
    }
    let mut limit = high;
    for position in placed.iter_mut().rev() {
        *position = position.min(limit);
        limit = *position - gap;
    }
    let mut out = vec![0.0; wishes.len()];
    for (position, &index) in placed.iter().zip(&order) {
        out[index] = *position;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(decimal_ticks(43.0, 5), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(decimal_ticks(0.0, 5), [0.0]);
        let mib = 1048576.0;
        assert_eq!(
            byte_ticks(7.3 * mib, 4),
            [0.0, 2.0 * mib, 4.0 * mib, 6.0 * mib]
        );
        assert_eq!(
            decimal_ticks_between(14.0, 26.0, 5),
            [15.0, 17.5, 20.0, 22.5, 25.0]
        );
        assert_eq!(
            byte_ticks_between(11.2 * mib, 14.0 * mib, 4),
            [12.0 * mib, 13.0 * mib, 14.0 * mib]
        );
        assert_eq!(log_ticks(0.4, 3.0, 8), [0.5, 1.0, 2.0]);
        assert!(log_ticks(1e-3, 1e12, 5).len() <= 6);
    }

    #[test]
    fn scales_stay_inside_whatever_the_value() {
        let scale = Scale::from_zero(10.0, 100.0, 200.0);
        assert_eq!(scale.at(5.0), 150.0);
        assert_eq!(scale.at(1e9), 200.0);
        assert_eq!(scale.at(f64::NAN), 100.0);
        let log = Scale::log(0.5, 2.0, 0.0, 100.0);
        assert!((log.at(1.0) - 50.0).abs() < 1e-9);
        assert!(Scale::from_zero(0.0, 0.0, 1.0).at(0.0).is_finite());
        assert!(Scale::log(0.0, 0.0, 0.0, 1.0).at(0.0).is_finite());
    }

    #[test]
    fn labels_are_spread_in_order() {
        let placed = spread(&[50.0, 51.0, 10.0, 99.0, 98.0], 12.0, 0.0, 100.0);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(
            sorted.windows(2).all(|pair| pair[1] - pair[0] >= 11.999),
            "{placed:?}"
        );
        assert!(placed[2] < placed[0] && placed[0] < placed[1] && placed[4] < placed[3]);
        assert!(sorted[4] <= 100.0);
    }
}
