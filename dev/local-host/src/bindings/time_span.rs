//! .NET's `TimeSpan` text: `d`, `[d.]hh:mm[:ss[.fffffff]]` or `d:hh:mm:ss`. A bare number is days.
//! <https://learn.microsoft.com/dotnet/api/system.timespan.parse>

use std::time::Duration;

use anyhow::{Context, Result};

/// Reads a time span. A negative one counts as none at all, which fails the same limits.
pub(super) fn parse(text: &str) -> Result<Duration> {
    span(text.trim()).with_context(|| format!("'{text}' is not a time span like 00:00:30"))
}

fn span(text: &str) -> Option<Duration> {
    if let Some(opposite) = text.strip_prefix('-') {
        return span(opposite).filter(|_| !opposite.starts_with('-')).map(|_| Duration::ZERO);
    }
    let fields: Vec<&str> = text.split(':').collect();
    let [days, hours, minutes, seconds] = match *fields.as_slice() {
        [days] => [days, "0", "0", "0"],
        [days, hours, minutes, seconds] => [days, hours, minutes, seconds],
        [head, minutes, ref seconds @ ..] if seconds.len() < 2 => {
            let (days, hours) = head.split_once('.').unwrap_or(("0", head));
            [days, hours, minutes, seconds.first().unwrap_or(&"0")]
        }
        _ => return None,
    };
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let nanoseconds = whole(&format!("{fraction:0<9}"), 999_999_900).filter(|_| (1..=7).contains(&fraction.len()))?;
    let minutes = whole(minutes, 59)? + 60 * (whole(hours, 23)? + 24 * whole(days, 10_675_198)?);
    Some(Duration::from_secs(whole(seconds, 59)? + 60 * minutes) + Duration::from_nanos(nanoseconds))
}

fn whole(text: &str, max: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && *value <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_time_span() {
        let cases = [
            ("00:00:05", Some(Duration::from_secs(5))),
            (" 00:00:00.1 ", Some(Duration::from_millis(100))),
            ("1.02:03:04", Some(Duration::from_secs(93_784))),
            ("1:02:03:04", Some(Duration::from_secs(93_784))),
            ("00:05", Some(Duration::from_secs(300))),
            ("10", Some(Duration::from_secs(864_000))),
            ("-00:00:01", Some(Duration::ZERO)),
            ("--1", None),
            ("5s", None),
            ("00:00:60", None),
            ("24:00:00", None),
            ("00:00:00.12345678", None),
            ("0:0:0:0:0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
