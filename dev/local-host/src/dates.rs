//! The texts that .NET makes of times, and what it does to strings that look like one.
//!
//! Newtonsoft turns every string that looks like an ISO 8601 time into a `DateTime`; as text it comes out in another
//! format. The host's local time zone is UTC here, as it is on Azure.
//! <https://www.newtonsoft.com/json/help/html/DatesInJSON.htm>

use time::{
    OffsetDateTime, PrimitiveDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description,
};

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const FRACTION: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:1+]");
const OFFSET: &[BorrowedFormatItem<'_>] = format_description!("[offset_hour sign:mandatory]:[offset_minute]");
const TICKS: &[BorrowedFormatItem<'_>] = format_description!("[subsecond digits:7]");
const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const GENERAL: &[BorrowedFormatItem<'_>] = format_description!("[month]/[day]/[year] [hour]:[minute]:[second]");

/// Formats as `2026-08-31T10:15:30+00:00`: the fraction is lost in binding data.
pub(crate) fn to_seconds(time: OffsetDateTime) -> String {
    utc(time, SECONDS) + "+00:00"
}

/// Formats as `2026-08-31T10:15:30.1234567+00:00`, without zeros at the end of the fraction.
pub(crate) fn to_ticks(time: OffsetDateTime) -> String {
    utc(time, SECONDS) + &fraction(&utc(time, TICKS)) + "+00:00"
}

/// Formats as `2026-08-31T10:15:30.1234560+00:00`, always with all seven digits.
pub(crate) fn to_round_trip(time: OffsetDateTime) -> String {
    format!("{}.{}+00:00", utc(time, SECONDS), utc(time, TICKS))
}

/// Formats as `2026-08-31T10:15:30.1234567Z`, without zeros at the end of the fraction.
pub(crate) fn to_zulu(time: OffsetDateTime) -> String {
    utc(time, SECONDS) + &fraction(&utc(time, TICKS)) + "Z"
}

/// Formats as `2026-08-31T10:15:30.123Z`, as the console does in front of a line.
pub(crate) fn to_console(time: OffsetDateTime) -> String {
    utc(time, MILLISECONDS)
}

/// Reads what [`to_ticks`] and [`to_zulu`] write; no offset means UTC.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    let (time, zone) = split(text)?;
    Some(time.assume_offset(zone.unwrap_or(UtcOffset::UTC)))
}

/// Formats a string that .NET takes for a time as `08/31/2026 10:15:30`.
pub(crate) fn general(text: &str) -> Option<String> {
    Some(utc(parse(text)?, GENERAL))
}

/// Formats a string that .NET takes for a time as Newtonsoft writes it back.
pub(crate) fn normal(text: &str) -> Option<String> {
    let (time, zone) = split(text)?;
    let time = time.assume_offset(zone.unwrap_or(UtcOffset::UTC));
    Some(match zone {
        None => to_zulu(time).trim_end_matches('Z').to_owned(),
        Some(_) if text.ends_with('Z') => to_zulu(time),
        Some(_) => to_ticks(time),
    })
}

fn split(text: &str) -> Option<(PrimitiveDateTime, Option<UtcOffset>)> {
    let shape = text.len() >= 19 && text.is_ascii() && text.as_bytes()[10] == b'T';
    let (date_time, zone) = match text {
        _ if !shape => return None,
        _ if text.ends_with('Z') => (&text[..text.len() - 1], Some(UtcOffset::UTC)),
        _ if text.len() >= 25 && matches!(text.as_bytes()[text.len() - 6], b'+' | b'-') => {
            let (date_time, offset) = text.split_at(text.len() - 6);
            (date_time, Some(UtcOffset::parse(offset, OFFSET).ok()?))
        }
        _ => (text, None),
    };
    let format = if date_time.contains('.') { FRACTION } else { SECONDS };
    Some((PrimitiveDateTime::parse(date_time, format).ok()?, zone))
}

fn utc(time: OffsetDateTime, format: &[BorrowedFormatItem<'_>]) -> String {
    // The formats hold only parts that every time has.
    time.to_offset(UtcOffset::UTC).format(format).unwrap_or_default()
}

fn fraction(ticks: &str) -> String {
    match ticks.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_look_like_a_time_are_rewritten() {
        let cases = [
            ("2026-08-31T10:15:30.123Z", "08/31/2026 10:15:30", "2026-08-31T10:15:30.123Z"),
            ("2026-08-31T10:15:30.500Z", "08/31/2026 10:15:30", "2026-08-31T10:15:30.5Z"),
            ("2026-08-31T12:15:30+02:00", "08/31/2026 10:15:30", "2026-08-31T10:15:30+00:00"),
            ("2024-08-01T00:00:00", "08/01/2024 00:00:00", "2024-08-01T00:00:00"),
        ];
        for (text, as_text, as_json) in cases {
            assert_eq!(general(text).as_deref(), Some(as_text), "{text}");
            assert_eq!(normal(text).as_deref(), Some(as_json), "{text}");
        }
    }

    #[test]
    fn other_strings_are_left_alone() {
        for text in ["2026-08-31", "2026-08-31 10:15:30", "order-2026-08-31T10:15:30", "2026-13-31T10:15:30Z", ""] {
            assert_eq!(general(text), None, "{text}");
        }
    }
}
