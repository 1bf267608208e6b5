//! Ages, sizes and ends in the few characters that a column has.

use std::time::Duration;

use bytesize::ByteSize;
use wasmatrix_model::{ExitCause, Timestamp};

/// How long before `now` it was, in its largest unit or two: `5s`, `12m`, `3h20m`, `4d`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    // Clocks of two machines differ a little: what is yet to come has just been.
    time(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

/// How long after `now` it will be.
pub(crate) fn until(then: Timestamp, now: Timestamp) -> String {
    age(now, then)
}

/// A length of time in its largest unit or two.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, unit: &str, small: u64, sub: &str| {
        if large < 10 && small > 0 { format!("{large}{unit}{small}{sub}") } else { format!("{large}{unit}") }
    };
    match seconds {
        0 if time.is_zero() => "0s".to_owned(),
        0 => format!("{}ms", time.as_millis().max(1)),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        86_400.. => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A number of bytes: `64.0 MiB` without the `.0`.
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string().replace(".0 ", " ")
}

/// An end in a few words.
pub(crate) fn exit(cause: &ExitCause) -> String {
    match cause {
        ExitCause::Exited { code } => format!("exit {code}"),
        ExitCause::Trapped { trap, .. } => trap.strip_prefix("wasm trap: ").unwrap_or(trap).to_owned(),
        ExitCause::LimitExceeded { limit, .. } => format!("{limit} limit"),
        ExitCause::StartFailed { message, .. } => format!("can't start: {message}"),
        ExitCause::StopRequested => "stopped".to_owned(),
        ExitCause::HostFault { message } => format!("host fault: {message}"),
    }
}

/// At most `chars_max` characters of it.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// The text without anything that a terminal would obey: control characters but tab and newline are shown escaped.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_largest_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m1s"),
            (3599, "59m"),
            (3600, "1h"),
            (12_000, "3h20m"),
        ];
        for (seconds, text) in cases {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
        assert_eq!(time(Duration::from_secs(86_400 * 45)), "45d");
        assert_eq!(time(Duration::from_micros(1500)), "1ms");
        assert_eq!(time(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn an_age_is_never_negative() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let later = Timestamp::from_second(1_000_007).unwrap();
        assert_eq!(age(now, later), "7s");
        assert_eq!(age(later, now), "0s");
        assert_eq!(until(later, now), "7s");
    }

    #[test]
    fn a_terminal_is_given_nothing_to_obey() {
        assert_eq!(harmless("a\tb\nc"), "a\tb\nc");
        assert_eq!(harmless("\x1b[2J\x07\u{9b}1m"), "\\u{1b}[2J\\u{7}\\u{9b}1m");
    }

    #[test]
    fn sizes_are_round_where_they_are() {
        assert_eq!(bytes(64 << 20), "64 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(0), "0 B");
    }
}
