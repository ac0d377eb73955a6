//! Amounts on the command line, the same for every subcommand: shares, times, sizes.

#![forbid(unsafe_code)]

use std::time::Duration;

/// A number of seconds, from a thousandth to a million.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.001..=1e6).contains(&seconds) {
        return Err("must be between 0.001 and 1000000 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Less than this and not even the harness fits.
const MEMORY_LIMIT_MIN_BYTES: u64 = 16 << 20;

/// "512M", "2G": powers of 1024.
pub(super) fn parse_memory_limit(text: &str) -> Result<u64, String> {
    let bytes = parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; expected a size such as 512M or 2G"))?;
    if bytes < MEMORY_LIMIT_MIN_BYTES {
        return Err("must be at least 16M".to_owned());
    }
    Ok(bytes)
}

/// "100", "64k", "2 MiB": powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; expected a size such as 256 or 64K"))
}

/// "1.5%" or "0.015".
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 0.01),
        None => (text, 1.0),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "not a share; expected e.g. 1.5% or 0.015".to_owned())?;
    let share = number * unit;
    if !(0.0001..=0.5).contains(&share) {
        return Err("must be between 0.01% and 50%; 1.5 without % means 150%".to_owned());
    }
    Ok(share)
}

/// "90s", "2m", "1h30m".
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let time: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "not a time; expected e.g. 90s, 2m or 1h30m".to_owned())?;
    Duration::try_from(time)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "must be more than no time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_memory_limit("2G"), Ok(2 << 30));
        assert_eq!(parse_memory_limit("512 MiB"), Ok(512 << 20));
        for text in ["", "many", "0", "-1G", "1k"] {
            assert!(parse_memory_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_and_times_have_units() {
        for (text, share) in [
            ("1.5%", 0.015),
            ("0.015", 0.015),
            ("2 %", 0.02),
            ("0.5", 0.5),
        ] {
            assert!(
                (parse_share(text).expect(text) - share).abs() < 1e-12,
                "{text}"
            );
        }
        for text in ["1.5", "1", "0", "-1%", "nan", "%", "", "60%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
        for (text, seconds) in [("90s", 90), ("2m", 120), ("1h30m", 5400), ("2 min", 120)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["2", "", "-2m", "0s", "soon"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "nan", "inf", "ten", ""] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
