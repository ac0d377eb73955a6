//! Numbers as people read them: three significant digits, a unit, and never wider than its column.

#![forbid(unsafe_code)]

/// What stands for a value that does not exist.
pub(crate) const ABSENT: &str = "–";

/// Three significant digits without an exponent: `0.123`, `1.23`, `12.3`, `123`.
fn significant(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Whether a measured value can be shown at all.
fn shown(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// `786,454`
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `512 B`, `1.50 KiB`, `12.3 MiB`; at most eight characters.
pub(crate) fn bytes(value: f64) -> String {
    if !shown(value) {
        return ABSENT.to_owned();
    }
    if value < 1024.0 {
        return format!("{value:.0} B");
    }
    let (scaled, unit) = scaled_bytes(value);
    // 1000 to 1023 of a unit would need four digits; the next unit up is as exact.
    format!("{} {unit}", significant(scaled))
}

fn scaled_bytes(value: f64) -> (f64, &'static str) {
    let mut scaled = value;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if scaled < 999.5 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    (scaled, unit)
}

/// A byte count on an axis: no digits after the point that say nothing.
pub(crate) fn axis_bytes(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value < 1024.0 {
        return format!("{} B", trimmed(value));
    }
    let mut scaled = value / 1024.0;
    let mut unit = "KiB";
    for next in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", trimmed(scaled))
}

/// A plain number on an axis: `0.25`, `40`, `1.5k`, `2M`.
pub(crate) fn axis_number(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", trimmed(v / 1e9)),
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

/// A time on an axis: `500 ns`, `2 µs`.
pub(crate) fn axis_time(ns: f64) -> String {
    match ns {
        v if v >= 1e9 => format!("{} s", trimmed(v / 1e9)),
        v if v >= 1e6 => format!("{} ms", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{} µs", trimmed(v / 1e3)),
        v => format!("{} ns", trimmed(v)),
    }
}

/// Operations per second on an axis: `0`, `20 M/s`.
pub(crate) fn axis_rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        v if v >= 1e9 => format!("{} G/s", trimmed(v / 1e9)),
        v if v >= 1e6 => format!("{} M/s", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{} k/s", trimmed(v / 1e3)),
        v => format!("{} /s", trimmed(v)),
    }
}

/// Like [`axis_number`], to two or three digits: for powers of two, whose exact digits say nothing.
pub(crate) fn axis_rounded(value: f64) -> String {
    match value {
        v if v < 1e3 => axis_number(v),
        v => {
            let digits = 10f64.powf((v.log10().floor() - 1.0).max(0.0));
            axis_number((v / digits).round() * digits)
        }
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A time per operation with its unit: `12.3 ns`, `1.24 µs`; at most eight characters.
pub(crate) fn time_ns(value: f64) -> String {
    if !shown(value) {
        return ABSENT.to_owned();
    }
    match value {
        v if v < 999.5 => format!("{} ns", significant(v)),
        v if v < 999.5e3 => format!("{} µs", significant(v / 1e3)),
        v if v < 999.5e6 => format!("{} ms", significant(v / 1e6)),
        v if v < 1e13 => format!("{} s", significant(v / 1e9)),
        v => format!("{:.0e} s", v / 1e9),
    }
}

/// Operations per second: `38.2 M/s`.
pub(crate) fn rate(per_second: f64) -> String {
    if !shown(per_second) {
        return ABSENT.to_owned();
    }
    match per_second {
        v if v < 999.5 => format!("{} /s", significant(v)),
        v if v < 999.5e3 => format!("{} k/s", significant(v / 1e3)),
        v if v < 999.5e6 => format!("{} M/s", significant(v / 1e6)),
        v => format!("{} G/s", significant(v / 1e9)),
    }
}

/// A ratio: `0.812`, `12.34`, `123.4`, `1e12`; at most five characters.
pub(crate) fn ratio(value: f64) -> String {
    if !shown(value) {
        return ABSENT.to_owned();
    }
    match value {
        v if v < 9.9995 => format!("{v:.3}"),
        v if v < 99.995 => format!("{v:.2}"),
        v if v < 999.95 => format!("{v:.1}"),
        v if v < 9999.5 => format!("{v:.0}"),
        v => format!("{v:.0e}"),
    }
}

/// A share of a whole: `23 %`, and `2.3 %` below ten.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !shown(value) {
        return ABSENT.to_owned();
    }
    match value {
        v if v < 9.95 => format!("{v:.1} %"),
        v if v < 9999.5 => format!("{v:.0} %"),
        v => format!("{v:.0e} %"),
    }
}

/// Peak RSS over live bytes; beyond a thousand the exact number says nothing.
pub(crate) fn fragmentation(value: f64) -> String {
    if value.is_finite() && value > 1000.0 {
        "> 1000".to_owned()
    } else {
        ratio(value)
    }
}

/// A share of a whole that noise can push above it.
pub(crate) fn share(value: f64) -> String {
    if value.is_finite() && value >= 1.0 {
        "all of it".to_owned()
    } else {
        percent(value)
    }
}

/// `1 process`, `3 processes`.
pub(crate) fn plural(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", count(number))
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

/// Text that cannot steer a terminal or break an XML file: control characters become `?`.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if c.is_control()
                || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}') =>
            {
                '?'
            }
            c => c,
        })
        .collect()
}

/// An argument as a shell would have to be given it.
pub(crate) fn shell_word(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_a_binary_unit() {
        for (value, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (1536.0, "1.50 KiB"),
            (12.34 * 1048576.0, "12.3 MiB"),
            (1020.0 * 1024.0, "1.00 MiB"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(786_454), "786,454");
        assert_eq!(count(2_455_240), "2,455,240");
    }

    #[test]
    fn ratios_and_times_fit_their_columns() {
        let mut value = 1e-9;
        while value < 1e300 {
            assert!(ratio(value).chars().count() <= 5, "{}", ratio(value));
            assert!(time_ns(value).chars().count() <= 8, "{}", time_ns(value));
            value *= 1.37;
        }
        assert_eq!(ratio(0.8123), "0.812");
        assert_eq!(time_ns(12.34), "12.3 ns");
        assert_eq!(time_ns(1240.0), "1.24 µs");
        assert_eq!(time_ns(3.69e9), "3.69 s");
        assert_eq!(ratio(f64::INFINITY), "–");
    }

    #[test]
    fn words_for_the_shell_survive_it() {
        assert_eq!(shell_word("trace.log"), "trace.log");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a?[2Jb c");
    }

    #[test]
    fn axes_are_terse() {
        assert_eq!(axis_bytes(0.0), "0");
        assert_eq!(axis_bytes(8.0), "8 B");
        assert_eq!(axis_bytes(1048576.0), "1 MiB");
        assert_eq!(axis_bytes(1.5 * 1048576.0), "1.5 MiB");
        assert_eq!(axis_number(40e6), "40M");
        assert_eq!(axis_number(0.25), "0.25");
        assert_eq!(axis_time(2000.0), "2 µs");
        assert_eq!(axis_time(500.0), "500 ns");
        assert_eq!(axis_rate(20e6), "20 M/s");
        assert_eq!(axis_rate(0.0), "0");
        assert_eq!(axis_rounded(512.0), "512");
        assert_eq!(axis_rounded(4096.0), "4.1k");
        assert_eq!(axis_rounded(131072.0), "130k");
    }
}
