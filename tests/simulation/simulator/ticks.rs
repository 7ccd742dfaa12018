//! What a tick of the timer promises by its success: what was there for it to do when it began is done.

use super::{
    journal::text,
    plan::{MARGIN, RETENTION},
    storage::{Change, What},
    task::Began,
    world::World,
};
use handler::idempotency::{
    key::{bucket_to_purge, partition_key},
    ledger::PUBLISH_GRACE,
    record::edm_date_time,
};
use std::time::Duration;

/// Looks at what is left at the end of a tick that succeeded.
pub(crate) fn check(world: &mut World, task: usize) {
    let Began { at, now, journal } = world.tasks[task].began;
    let state = world.network.state();
    let before = &state.storage.journal[..journal];
    let (bucket, is_published) = (partition_key(bucket_to_purge(now)), edm_date_time(now - PUBLISH_GRACE));
    // The clock of who committed may be behind, and that of who purges.
    let kept: time::Duration = RETENTION + MARGIN + world.plan.skew * 2;
    let mut broken = Vec::new();
    for row in state.storage.table.iter().flat_map(|table| table.values()) {
        let Some(inserted) = inserted_at(before, text(row, "odata.etag")) else { continue };
        let (is_record, row_key) = (row.contains_key("receipt"), text(row, "RowKey"));
        if !is_record && text(row, "created_at") < is_published.as_str() {
            broken.push(format!("left in the outbox by a tick that succeeded: {row_key}"));
        }
        if is_record && text(row, "PartitionKey") == bucket && inserted + kept.unsigned_abs() < at {
            broken.push(format!("not purged by a tick that succeeded: {row_key}"));
        }
    }
    drop(state);
    world.broken.append(&mut broken);
}

/// When the row with this `ETag` was inserted, if that was before the end of this journal.
fn inserted_at(journal: &[Change], etag: &str) -> Option<Duration> {
    let is_insert = |change: &&Change| matches!(&change.what, What::Inserted(row) if text(row, "odata.etag") == etag);
    journal.iter().rev().find(is_insert).map(|change| change.at)
}
