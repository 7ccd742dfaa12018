//! The output: aligned text for people, or one JSON object a line.

use std::{
    io::{self, ErrorKind, IsTerminal, Write, stderr, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use handler::logging::steers_terminals;
use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Something is left or was found, or not all was seen.
pub(crate) const LEFT: u8 = 3;

pub(crate) fn left_if(is_left: bool) -> ExitCode {
    if is_left { LEFT.into() } else { ExitCode::SUCCESS }
}

/// Prints one JSON object on a line.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print_line(&serde_json::to_string(value)?)
}

/// Prints names and values, the values below each other.
pub(crate) fn print_lines(lines: &[(&str, String)]) -> Result<()> {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    lines.iter().try_for_each(|(name, value)| print_line(&format!("{name:width$}  {value}")))
}

/// Prints a line, and nothing in it that ends it or steers the terminal: such characters are escaped as in JSON.
pub(crate) fn print_line(line: &str) -> Result<()> {
    writeln!(stdout(), "{}", escaped(line)).context("the output cannot be written")
}

/// Tells something that is no part of the result. Whether anybody reads it does not matter.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(stderr(), "{}", escaped(line));
}

pub(crate) fn escaped(text: &str) -> String {
    let escape = |c: char| if steers_terminals(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Whether the output was closed by who reads it, as `head` does.
pub(crate) fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}

pub(crate) fn serialize_time<S: Serializer>(time: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(rfc3339).serialize(serializer)
}

/// Writes a span of time in its two largest units.
pub(crate) fn span(span: time::Duration) -> String {
    let seconds = span.whole_seconds().abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Writes a time, and how long ago or ahead it is.
pub(crate) fn when(time: OffsetDateTime, now: OffsetDateTime) -> String {
    let (far, near) = (span(now - time), rfc3339(time));
    if time > now { format!("{near} (in {far})") } else { format!("{near} ({far} ago)") }
}

/// A line that is overwritten while long work goes on; for people only.
#[derive(Debug)]
pub(crate) struct Progress {
    verb: &'static str,
    next: Option<Instant>,
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

impl Progress {
    pub(crate) fn new(verb: &'static str) -> Self {
        Self { verb, next: stderr().is_terminal().then(Instant::now) }
    }

    pub(crate) fn show(&mut self, count: u64) {
        if self.next.is_some_and(|next| Instant::now() >= next) {
            let _ = write!(stderr(), "\r{}: {count} ", self.verb);
            self.next = Some(Instant::now() + PROGRESS_INTERVAL);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
