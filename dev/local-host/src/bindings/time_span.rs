//! .NET's `TimeSpan` text: `[d.]hh:mm[:ss[.fffffff]]`, and a bare number is days.
//! <https://learn.microsoft.com/dotnet/api/system.timespan.parse>

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a time span that is not negative.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let Some((head, tail)) = text.split_once(':') else {
        return Some(Duration::from_secs(whole(text, u64::MAX / 86_400)? * 86_400));
    };
    let (days, hours) = match head.split_once('.') {
        Some((days, hours)) => (whole(days, 10_000_000)?, whole(hours, 23)?),
        None => (0, whole(head, 23)?),
    };
    let (minutes, seconds) = tail.split_once(':').unwrap_or((tail, "0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    if fraction.len() > 7 {
        return None;
    }
    let nanoseconds = whole(&format!("{fraction:0<9}"), 999_999_999)?;
    let seconds = whole(seconds, 59)? + 60 * (whole(minutes, 59)? + 60 * (hours + 24 * days));
    Some(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

fn whole(text: &str, max: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && *value <= max)
}

/// Reads a time span, for `deserialize_with`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("'{text}' is not a time span like 00:00:30")))
}

/// Reads a time span that may be absent, for `deserialize_with`.
pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_time_span() {
        let cases = [
            ("00:00:05", Some(Duration::from_secs(5))),
            ("00:00:00.1", Some(Duration::from_millis(100))),
            ("1.02:03:04", Some(Duration::from_secs(93_784))),
            ("00:05", Some(Duration::from_secs(300))),
            ("10", Some(Duration::from_secs(864_000))),
            ("5s", None),
            ("00:00:60", None),
            ("24:00:00", None),
            ("-00:00:01", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
