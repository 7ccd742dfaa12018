//! The host's console: every line as `func start` prints it, kept so that a test can look at it.
//!
//! For an operator the console is all there is of an invocation that failed, so its words and their order are the
//! host's: <https://learn.microsoft.com/azure/azure-functions/functions-core-tools-reference#func-start>

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::dates;

/// Old lines are dropped beyond this many, so that a host can run for days.
const KEPT: usize = 20_000;

/// The level of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Information.
    Information,
    /// Warning.
    Warning,
    /// Error.
    Error,
}

/// One line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was written.
    pub time: OffsetDateTime,
    /// Its level.
    pub level: Level,
    /// Its text.
    pub text: String,
}

/// A second destination of each line.
pub type Sink = fn(&Line);

/// Prints a line as `func start` does.
pub fn print(line: &Line) {
    println!("[{}] {}", dates::to_console(line.time), line.text);
}

#[derive(Debug)]
pub(crate) struct Console {
    sink: Option<Sink>,
    lines: Mutex<VecDeque<Line>>,
    written: watch::Sender<u64>,
}

impl Console {
    pub(crate) fn new(sink: Option<Sink>) -> Self {
        Self { sink, lines: Mutex::default(), written: watch::Sender::new(0) }
    }

    pub(crate) fn information(&self, text: impl Into<String>) {
        self.write(Level::Information, text.into());
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.write(Level::Warning, text.into());
    }

    pub(crate) fn error(&self, text: impl Into<String>) {
        self.write(Level::Error, text.into());
    }

    pub(crate) fn write(&self, level: Level, text: String) {
        let line = Line { time: OffsetDateTime::now_utc(), level, text };
        if let Some(sink) = self.sink {
            sink(&line);
        }
        let mut lines = self.kept();
        lines.push_back(line);
        if lines.len() > KEPT {
            lines.pop_front();
        }
        drop(lines);
        self.written.send_modify(|count| *count += 1);
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.kept().iter().cloned().collect()
    }

    /// Waits for the first line that contains `text`, unless it is written already.
    pub(crate) async fn wait_for(&self, text: &str, limit: Duration) -> Result<Line> {
        let mut written = self.written.subscribe();
        let find = async {
            loop {
                written.borrow_and_update();
                let found = self.kept().iter().find(|line| line.text.contains(text)).cloned();
                match found {
                    Some(line) => return line,
                    // The sender is ours, so it is there.
                    None => drop(written.changed().await),
                }
            }
        };
        let found = tokio::time::timeout(limit, find).await;
        found.with_context(|| format!("no line with '{text}' within {limit:?}; the console:\n{}", self.transcript()))
    }

    fn transcript(&self) -> String {
        self.kept().iter().map(|line| format!("  {}\n", line.text)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
