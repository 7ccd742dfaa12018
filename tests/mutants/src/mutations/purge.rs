//! Mistakes with records: when they are purged, and when not.

use super::{
    Killer::{Choices, Seed},
    Mutation,
};

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "rows are deleted whatever they are by now",
        file: "storage/table.rs",
        original: "IfMatchCondition::Etag(Etag::from(row.etag.clone()))",
        mutant: "IfMatchCondition::Any",
        breaks: "purged inside its retention",
        killed_by: Choices("an expired record, two ticks at once, and the order once more", &[0, 1, 1, 1, 2, 2, 2, 1]),
    },
    Mutation {
        name: "the retention is ignored",
        file: "idempotency/ledger.rs",
        original: "edm_date_time(attempt.now - MARGIN)",
        mutant: "edm_date_time(attempt.now + self.retention)",
        breaks: "purged inside its retention",
        killed_by: Seed(17),
    },
    Mutation {
        name: "records expire early",
        file: "idempotency/ledger.rs",
        original: "now.saturating_add(self.retention)",
        mutant: "now.saturating_add(self.retention / 2)",
        breaks: "purged inside its retention",
        killed_by: Seed(17),
    },
    Mutation {
        name: "the margin is ignored",
        file: "idempotency/ledger.rs",
        original: "attempt.now - MARGIN",
        mutant: "attempt.now",
        breaks: "purged inside its retention",
        killed_by: Seed(458),
    },
    Mutation {
        name: "nothing is ever purged",
        file: "functions/scheduled_with_retry.rs",
        original: "ledger.purge(attempt, Instant::now() + third).await",
        mutant: "(0, Ok(()))",
        breaks: "not purged by a tick that succeeded",
        killed_by: Choices("an expired record, two ticks at once, and the order once more", &[]),
    },
    Mutation {
        name: "only the first page of expired records is purged",
        file: "idempotency/ledger.rs",
        original: "pages.next().await",
        mutant: "std::mem::replace(&mut pages, Box::pin(futures::stream::empty())).next().await",
        breaks: "not purged by a tick that succeeded",
        killed_by: Seed(53),
    },
    Mutation {
        name: "a record is purged while events of it may be left",
        file: "functions/scheduled_with_retry.rs",
        original: "relayed.unfinished.contains(&bucket_of_the_tick(attempt.now))",
        mutant: "false",
        breaks: "purged before its event was published and deleted",
        killed_by: Seed(941),
    },
];
