//! When a timer ticks: an NCRONTAB expression or a time span.
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions>

use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use time::OffsetDateTime;

use super::time_span;

/// The rule that a timer follows, in UTC.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Six fields, seconds first.
    Cron(Box<Cron>),
    /// Always the same pause.
    Every(Duration),
}

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 1 {
            let span = time_span::parse(text).ok().filter(|span| !span.is_zero());
            return span.map(Self::Every).with_context(|| format!("'{text}' is neither NCRONTAB nor a time span"));
        }
        if is_extended(&fields) {
            bail!("'{text}' is not an NCRONTAB expression");
        }
        // Five fields are accepted, with 0 for the seconds; the two day fields must both match.
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).dom_and_dow(true).build();
        let cron = parser.parse(text).with_context(|| format!("'{text}' is not an NCRONTAB expression"))?;
        Ok(Self::Cron(Box::new(cron)))
    }

    /// Returns the first tick after `time`.
    ///
    /// # Errors
    /// When there is none, such as on 30 February.
    pub fn next_after(&self, time: OffsetDateTime) -> Result<OffsetDateTime> {
        match self {
            Self::Every(pause) => Ok(time + *pause),
            Self::Cron(cron) => {
                let time = DateTime::<Utc>::from_timestamp(time.unix_timestamp(), time.nanosecond());
                let next = cron.find_next_occurrence(&time.context("time out of range")?, false)?;
                Ok(OffsetDateTime::from_unix_timestamp(next.timestamp())?)
            }
        }
    }

    /// Returns the tick after the one that was served: the next one, or the last of those that passed by meanwhile. That one
    /// is due at once, and makes up for all of them.
    ///
    /// # Errors
    /// Those of [`Self::next_after`].
    pub fn next_due(&self, served: OffsetDateTime, now: OffsetDateTime) -> Result<OffsetDateTime> {
        let mut due = self.next_after(served)?;
        loop {
            let following = self.next_after(due)?;
            if following > now {
                return Ok(due);
            }
            due = following;
        }
    }

    /// Says whether the host remembers the schedule: not if it ticks more than once a minute.
    pub fn is_monitored_after(&self, time: OffsetDateTime) -> bool {
        let mut ticks = std::iter::successors(Some(time), |tick| self.next_after(*tick).ok()).skip(1).take(6);
        let Some(mut previous) = ticks.next() else { return false };
        ticks.all(|tick| {
            let gap = tick - previous;
            previous = tick;
            gap >= time::Duration::MINUTE
        })
    }
}

/// Says whether there is something that the parser knows and NCRONTAB does not.
fn is_extended(fields: &[&str]) -> bool {
    let signs = fields.iter().any(|field| field.contains(['?', '#', '@', '+']));
    // The last and the nearest working day. Elsewhere these letters are part of a name.
    let [.., day, _, weekday] = fields else { return signs };
    let letters = day.contains(['L', 'l', 'W', 'w']) || weekday.contains(['L', 'l']);
    // Sunday is 0 and nothing else; a step may well be 7.
    let seventh = weekday.split(',').any(|part| part.split('/').next().is_some_and(|days| days.contains('7')));
    signs || letters || seventh
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_next_tick() {
        let from = datetime!(2026-08-31 10:17:30.5 UTC);
        let cases = [
            ("0 */5 * * * *", datetime!(2026-08-31 10:20 UTC)),
            ("*/5 * * * *", datetime!(2026-08-31 10:20 UTC)),
            ("*/10 * * * * *", datetime!(2026-08-31 10:17:40 UTC)),
            ("0 0 9 * * MON", datetime!(2026-09-07 09:00 UTC)),
            ("0 0 9 * JUL WED", datetime!(2027-07-07 09:00 UTC)),
            ("0 0 9 * * */7", datetime!(2026-09-06 09:00 UTC)),
            ("00:01:00", datetime!(2026-08-31 10:18:30.5 UTC)),
        ];
        for (text, expected) in cases {
            assert_eq!(Schedule::parse(text).unwrap().next_after(from).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_tick_is_not_its_own_successor() {
        let schedule = Schedule::parse("0 */5 * * * *").unwrap();
        let tick = datetime!(2026-08-31 10:20 UTC);
        assert_eq!(schedule.next_after(tick).unwrap(), datetime!(2026-08-31 10:25 UTC));
    }

    #[test]
    fn ticks_that_passed_by_are_made_up_for_by_the_last_of_them() {
        let schedule = Schedule::parse("0 */5 * * * *").unwrap();
        let served = datetime!(2026-08-31 10:20 UTC);
        let cases = [
            (datetime!(2026-08-31 10:20:01 UTC), datetime!(2026-08-31 10:25 UTC)),
            (datetime!(2026-08-31 10:25:01 UTC), datetime!(2026-08-31 10:25 UTC)),
            (datetime!(2026-08-31 11:01 UTC), datetime!(2026-08-31 11:00 UTC)),
        ];
        for (now, expected) in cases {
            assert_eq!(schedule.next_due(served, now).unwrap(), expected, "{now}");
        }
    }

    #[test]
    fn only_slow_schedules_are_monitored() {
        let now = datetime!(2026-08-31 10:17:30 UTC);
        for (text, expected) in [("0 */5 * * * *", true), ("0 * * * * *", true), ("*/30 * * * * *", false)] {
            assert_eq!(Schedule::parse(text).unwrap().is_monitored_after(now), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "often", "* * *", "0 61 * * * *", "00:00:00"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_only_other_dialects_know_is_refused() {
        let texts = [
            "0 0 12 ? * *",
            "0 0 12 * * 1#2",
            "0 0 12 1 * +1",
            "0 0 12 L * *",
            "0 0 12 15w * *",
            "0 0 12 * * 5L",
            "0 0 12 * * 7",
            "0 12 * * 1-7",
            "0 0 12 * * * 2030",
            "@daily",
        ];
        for text in texts {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
