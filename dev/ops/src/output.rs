//! The output: aligned text for people, or one JSON object a line.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The end of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Done,
    /// Something is left, or was found: exit code 3.
    Left,
}

impl Outcome {
    pub(crate) const fn left_if(is_left: bool) -> Self {
        if is_left { Self::Left } else { Self::Done }
    }
}

/// Prints one JSON object on a line.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Prints names and values, the values below each other.
pub(crate) fn print_lines(lines: &[(&str, String)]) {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in lines {
        println!("{name:width$}  {value}");
    }
}

pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
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
            eprint!("\r{}: {count} ", self.verb);
            self.next = Some(Instant::now() + PROGRESS_INTERVAL);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
