//! The memory of a timer: when it ticked last and when it ticks next, in a blob.
//!
//! Written at the first start, then after each run with all its retries, so that a host that is killed in between runs
//! the tick again. `ScheduleMonitor` and `StorageScheduleMonitor` in
//! <https://github.com/Azure/azure-webjobs-sdk-extensions/tree/dev/src/WebJobs.Extensions/Extensions/Timers/Scheduling>

use anyhow::{Context, Result};
use serde::Deserialize;
use time::OffsetDateTime;

use test_storage::Account;

use crate::{bindings::Schedule, dates, envelope::ScheduleStatus, lock::CONTAINER};

/// Why a tick runs now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// It is time.
    Schedule,
    /// No host ran when it was.
    PastDue,
    /// A host has started.
    Startup,
}

/// Computes the status after a run that began at `started`. Its end does not matter: a tick that fell due while it ran is
/// in the past then, and is run at once, be it by the next host.
pub(super) fn after_run(
    schedule: &Schedule,
    cause: Cause,
    due: OffsetDateTime,
    started: OffsetDateTime,
) -> Result<ScheduleStatus> {
    // By a clock that is late a tick may begin before it is due, and would be its own successor. The other two begin
    // when they do; what is due next is still to come.
    let last = if cause == Cause::Schedule { started.max(due) } else { started };
    Ok(ScheduleStatus { last: Some(last), next: schedule.next_after(last)?, last_updated: Some(last) })
}

/// The blob with the status of one timer.
pub(crate) struct StatusBlob {
    account: Account,
    name: String,
}

impl StatusBlob {
    pub(crate) fn new(account: Account, host_id: &str, function: &str) -> Self {
        Self { account, name: status_blob(host_id, function) }
    }

    /// Looks up the stored status at start. Returns the status to run with, and the tick that was missed, if one was.
    pub(super) async fn at_start(
        &self,
        schedule: &Schedule,
        now: OffsetDateTime,
    ) -> Result<(ScheduleStatus, Option<OffsetDateTime>)> {
        let next = schedule.next_after(now)?;
        let fresh = ScheduleStatus { last: None, next, last_updated: Some(now) };
        let Some(status) = self.read().await? else {
            self.write(&fresh).await?;
            // What is stored and what the first run is told are not the same.
            return Ok((ScheduleStatus { last_updated: None, ..fresh }, None));
        };
        // Another schedule than the stored one: nothing was missed by it.
        if schedule.next_after(status.last.or(status.last_updated).unwrap_or(now))? != status.next {
            self.write(&fresh).await?;
            return Ok((fresh, None));
        }
        let missed = Some(status.next).filter(|next| *next < now);
        Ok((status, missed))
    }

    pub(super) async fn read(&self) -> Result<Option<ScheduleStatus>> {
        let Some(text) = self.account.read_blob(CONTAINER, &self.name).await? else { return Ok(None) };
        let status: StoredStatus = serde_json::from_str(&text).context("timer status is not JSON")?;
        let next = dates::parse(&status.next).context("timer status without a next time")?;
        let [last, last_updated] =
            [status.last, status.last_updated].map(|time| dates::parse(&time).filter(|time| time.year() > 1));
        Ok(Some(ScheduleStatus { last, next, last_updated }))
    }

    pub(super) async fn write(&self, status: &ScheduleStatus) -> Result<()> {
        Ok(self.account.write_blob(CONTAINER, &self.name, &status.to_json().compact()).await?)
    }
}

/// Names the blob with the status of a timer, in container `azure-webjobs-hosts`.
pub fn status_blob(host_id: &str, function: &str) -> String {
    format!("timers/{host_id}/Host.Functions.{function}/status")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredStatus {
    last: String,
    next: String,
    last_updated: String,
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_run_is_remembered_by_its_beginning() {
        let schedule = Schedule::parse("0 */5 * * * *").unwrap();
        let on_time = datetime!(2026-08-31 10:20:00.012 UTC);
        let early = datetime!(2026-08-31 10:19:59.996 UTC);
        let late = datetime!(2026-08-31 10:33:20 UTC);
        let due = datetime!(2026-08-31 10:20 UTC);
        let cases = [
            (Cause::Schedule, due, on_time, on_time, datetime!(2026-08-31 10:25 UTC)),
            (Cause::Schedule, due, early, due, datetime!(2026-08-31 10:25 UTC)),
            (Cause::Schedule, due, late, late, datetime!(2026-08-31 10:35 UTC)),
            (Cause::PastDue, due, late, late, datetime!(2026-08-31 10:35 UTC)),
            // The tick that was to come is still to come.
            (Cause::Startup, datetime!(2026-08-31 10:35 UTC), late, late, datetime!(2026-08-31 10:35 UTC)),
        ];
        for (cause, due, started, last, next) in cases {
            let expected = ScheduleStatus { last: Some(last), next, last_updated: Some(last) };
            assert_eq!(after_run(&schedule, cause, due, started).unwrap(), expected, "{cause:?} {started}");
        }
    }
}
