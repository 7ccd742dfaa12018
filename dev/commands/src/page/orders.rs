//! The messages behind the buttons of the page: the samples, with an id of their own each.
//!
//! `samples/` is replaced together with the domain, so the page fits whatever domain there is.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use serde_json::{Map, Value};

use workspace::Sample;

/// The samples, and how far they are used up.
#[derive(Debug)]
pub(super) struct Orders {
    /// The start of every id of this run, so that storage that was kept knows none of them.
    prefix: String,
    /// The id in the samples.
    id: String,
    order: String,
    again: String,
    conflict: String,
    nonsense: Vec<String>,
    last: AtomicU32,
    next_nonsense: AtomicUsize,
}

impl Orders {
    /// Makes the messages, if there is a sample of each kind and one id that is a text in the accepted ones.
    pub(super) fn new(samples: &[Sample]) -> Option<Self> {
        let of = |outcome: &str| Some(samples.iter().find(|sample| sample.outcome == outcome)?.message.clone());
        let (order, again, conflict) = (of("committed")?, of("duplicate")?, of("conflict")?);
        let is_nonsense = |sample: &&Sample| !sample.is_accepted() && sample.outcome != "conflict";
        let nonsense: Vec<_> = samples.iter().filter(is_nonsense).map(|sample| sample.message.clone()).collect();
        let id = id(&order, &conflict)?;
        let run: String = std::iter::repeat_with(|| fastrand::char('a'..='z')).take(4).collect();
        let prefix = format!("order-{run}-");
        let (last, next_nonsense) = (AtomicU32::new(0), AtomicUsize::new(0));
        (!nonsense.is_empty()).then_some(Self { prefix, id, order, again, conflict, nonsense, last, next_nonsense })
    }

    /// Makes as many new orders.
    pub(super) fn next(&self, count: u32) -> Vec<String> {
        let first = self.last.fetch_add(count, Relaxed) + 1;
        (first..first + count).map(|number| self.numbered(&self.order, number)).collect()
    }

    /// Makes the last order in another spelling.
    pub(super) fn again(&self) -> String {
        self.numbered(&self.again, self.current())
    }

    /// Makes other content for the id of the last order.
    pub(super) fn conflict(&self) -> String {
        self.numbered(&self.conflict, self.current())
    }

    /// Takes the next of the messages that nobody can accept.
    pub(super) fn nonsense(&self) -> String {
        self.nonsense[self.next_nonsense.fetch_add(1, Relaxed) % self.nonsense.len()].clone()
    }

    /// Tells the number of the order that this text is, and whether its content is the other one.
    pub(super) fn recognise(&self, text: &str) -> Option<(u32, bool)> {
        let (_, rest) = text.split_once(&self.prefix)?;
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse().ok()?;
        let same = [&self.order, &self.again].into_iter().any(|sample| text == self.numbered(sample, number));
        (same || text == self.numbered(&self.conflict, number)).then_some((number, !same))
    }

    /// Returns the number of the last order; the first one, when none was sent.
    fn current(&self) -> u32 {
        let _ = self.last.compare_exchange(0, 1, Relaxed, Relaxed);
        self.last.load(Relaxed)
    }

    fn numbered(&self, sample: &str, number: u32) -> String {
        sample.replace(&self.id, &format!("{}{number}", self.prefix))
    }
}

/// Finds the id of an order: the text that a conflicting one repeats, in a member called `id` if there is one.
fn id(order: &str, conflict: &str) -> Option<String> {
    let [order, conflict] = [order, conflict].map(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    let conflict = conflict?;
    let mut texts: Vec<_> = order?.into_iter().filter(|(name, value)| conflict.get(name) == Some(value)).collect();
    texts.sort_by_key(|(name, _)| !name.to_lowercase().ends_with("id"));
    texts.iter().find_map(|(_, value)| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
}
