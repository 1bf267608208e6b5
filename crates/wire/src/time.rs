//! Durations and timestamps. What the other side's type can't hold is refused on the way in, never wrapped.

use std::time::Duration;

use wasmatrix_model::{Timestamp, failure::Invalid};

/// Longest duration that protobuf speaks of: 10,000 years.
const SECONDS_MAX: i64 = 315_576_000_000;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// A duration for the wire. One of more than 10,000 years becomes 10,000 years.
pub fn duration_to_v1(duration: Duration) -> prost_types::Duration {
    match i64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds < SECONDS_MAX => {
            // Below a second there are fewer than 10⁹ nanoseconds, which fit.
            prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
        }
        Ok(_) | Err(_) => prost_types::Duration { seconds: SECONDS_MAX, nanos: 0 },
    }
}

/// A duration from the wire; `name` is its field.
///
/// # Errors
/// It is negative, longer than 10,000 years, or its nanoseconds are not those of a fraction of a second.
pub fn duration_from_v1(name: &str, duration: prost_types::Duration) -> Result<Duration, Invalid> {
    let prost_types::Duration { seconds, nanos } = duration;
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(whole), Ok(fraction)) if seconds <= SECONDS_MAX && nanos < NANOS_PER_SECOND => {
            Ok(Duration::new(whole, fraction))
        }
        _ => Err(Invalid::new(
            name,
            format!("{seconds} s and {nanos} ns are no duration of 0 to 10,000 years"),
        )),
    }
}

/// A duration that may be left out.
///
/// # Errors
/// As [`duration_from_v1`].
pub fn optional_duration_from_v1(
    name: &str,
    duration: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Invalid> {
    duration.map(|duration| duration_from_v1(name, duration)).transpose()
}

/// A point in time for the wire.
pub fn timestamp_to_v1(timestamp: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    if nanos < 0 {
        // Before 1970 the model counts both parts back from zero; the wire counts nanoseconds forward always.
        prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + NANOS_PER_SECOND }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

/// A point in time from the wire; `name` is its field.
///
/// # Errors
/// It is out of the calendar's range, or its nanoseconds are not those of a fraction of a second.
pub fn timestamp_from_v1(name: &str, timestamp: prost_types::Timestamp) -> Result<Timestamp, Invalid> {
    let prost_types::Timestamp { seconds, nanos } = timestamp;
    let objection = || Invalid::new(name, format!("{seconds} s and {nanos} ns are no point in time"));
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err(objection());
    }
    Timestamp::new(seconds, nanos).map_err(|_| objection())
}

/// A point in time that may be left out.
///
/// # Errors
/// As [`timestamp_from_v1`].
pub fn optional_timestamp_from_v1(
    name: &str,
    timestamp: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Invalid> {
    timestamp.map(|timestamp| timestamp_from_v1(name, timestamp)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_calendar_come_back() {
        for timestamp in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert_eq!(timestamp_from_v1("at", timestamp_to_v1(timestamp)), Ok(timestamp));
        }
        let before = Timestamp::new(-1, -1).unwrap();
        assert_eq!(timestamp_to_v1(before), prost_types::Timestamp { seconds: -2, nanos: 999_999_999 });
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for (seconds, nanos) in
            [(-1, 0), (0, -1), (0, 1_000_000_000), (SECONDS_MAX + 1, 0), (i64::MIN, i32::MIN)]
        {
            let refusal = duration_from_v1("grace", prost_types::Duration { seconds, nanos }).unwrap_err();
            assert_eq!(refusal.field, "grace");
        }
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, i32::MIN)] {
            assert!(timestamp_from_v1("at", prost_types::Timestamp { seconds, nanos }).is_err());
        }
        assert_eq!(duration_to_v1(Duration::MAX).seconds, SECONDS_MAX);
    }
}
