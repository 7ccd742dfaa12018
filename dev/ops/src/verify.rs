//! `cargo ops verify`: holds what is stored against what is promised of it, and changes nothing.
//!
//! The index rows of a bucket come before its records. Hashes of their keys are kept until then, ten bytes or so for each
//! order of a bucket. What is suspected is looked at once more before it is told, since orders are committed and purged
//! meanwhile.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    process::ExitCode,
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use handler::{
    idempotency::{
        key::{BUCKETS, expiry_row_key_before, partition_key},
        record::SCHEMA,
    },
    storage::Error,
};
use serde::Serialize;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::{
    account::{Account, patiently},
    kept::time,
    output::{Progress, left_if, print_json, print_line, print_lines, tell},
};

/// Buckets that are read at the same time.
const AT_ONCE: usize = 4;

/// A record is purged an hour after its retention, and a purge that does not keep up warns within a day.
const OVERDUE: Duration = Duration::hours(25);

/// The arguments of `cargo ops verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The first of the 64 buckets: where an earlier run was interrupted
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..i64::from(BUCKETS)))]
    from: u8,
    /// The last one
    #[arg(long, default_value_t = BUCKETS - 1, value_parser = clap::value_parser!(u8).range(..i64::from(BUCKETS)))]
    to: u8,
}

/// What a bucket holds, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
struct Report {
    bucket: u8,
    records: u64,
    index_rows: u64,
    events: u64,
    /// Of another version, or damaged.
    unreadable: u64,
    /// Past their retention for a day, and not purged.
    overdue: u64,
    records_without_index_row: Vec<String>,
    events_without_record: Vec<String>,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<ExitCode> {
    tell(
        "Every row is read, 100 in a request: at ten million orders a day and 30 days of retention six million requests, which \
         take hours and load the partitions. If it is interrupted, go on with --from.",
    );
    let mut progress = Progress::new("buckets");
    let mut is_wrong = false;
    let buckets = arguments.from..=arguments.to;
    let verify = async |bucket| {
        let report = verify(account, bucket).await;
        report.with_context(|| format!("bucket {bucket} cannot be read: go on with --from {bucket}"))
    };
    let mut reports = stream::iter(buckets.map(verify)).buffered(AT_ONCE);
    while let Some(report) = reports.next().await {
        let report = report?;
        is_wrong |= report.is_wrong();
        print(account.json, &report)?;
        progress.show(report.bucket.into());
    }
    Ok(left_if(is_wrong))
}

/// One row, as much of it as is needed.
struct Row<'a>(&'a Value);

impl<'a> Row<'a> {
    fn text(&self, property: &str) -> &'a str {
        self.0.get(property).and_then(Value::as_str).unwrap_or_default()
    }

    fn key(&self) -> &'a str {
        self.text("RowKey")
    }

    fn is_readable(&self) -> bool {
        self.0.get("schema").and_then(Value::as_i64) == Some(SCHEMA.into())
    }

    fn expires_at(&self) -> Option<OffsetDateTime> {
        time(self.text("expires_at"))
    }

    /// Returns the key of the index row that a record asks for.
    fn index_row(&self) -> Option<String> {
        let hash = self.key().strip_prefix("record~")?;
        Some(format!("{}{hash}~{}", expiry_row_key_before(self.expires_at()?), self.text("commit_id")))
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

async fn verify(account: &Account, bucket: u8) -> Result<Report, Error> {
    let mut report = Report { bucket, ..Report::default() };
    let (mut index_rows, mut events, mut suspected) = (HashSet::new(), Vec::new(), Vec::new());
    each_row(account, bucket, |row| match row.key().split('~').next() {
        Some("expiry") => {
            report.index_rows += 1;
            report.unreadable += u64::from(!row.is_readable());
            index_rows.insert(hash(row.key()));
        }
        Some("outbox") => {
            report.events += 1;
            report.unreadable += u64::from(!row.is_readable());
            events.push(row.key().to_owned());
        }
        _ => {
            report.records += 1;
            let index_row = row.index_row().filter(|_| row.is_readable());
            report.unreadable += u64::from(index_row.is_none());
            report.overdue += u64::from(row.expires_at().is_some_and(|time| time + OVERDUE < account.began));
            let missing = index_row.filter(|index_row| !index_rows.contains(&hash(index_row)));
            suspected.extend(missing.map(|index_row| (row.key().to_owned(), index_row)));
        }
    })
    .await?;
    let exists = async |row_key: &str| exists(account, bucket, row_key).await;
    for (record, index_row) in suspected {
        if !exists(&index_row).await? && exists(&record).await? {
            report.records_without_index_row.push(record);
        }
    }
    for event in events {
        let record = format!("record~{}", event.split('~').nth(1).unwrap_or_default());
        if !exists(&record).await? && exists(&event).await? {
            report.events_without_record.push(event);
        }
    }
    Ok(report)
}

async fn each_row(account: &Account, bucket: u8, mut see: impl FnMut(Row<'_>)) -> Result<(), Error> {
    let filter = format!("PartitionKey eq '{}'", partition_key(bucket));
    let mut pages = account.table.query::<Value>(filter, "RowKey,schema,commit_id,expires_at");
    while let Some(page) = pages.next().await {
        page?.iter().for_each(|row| see(Row(row)));
    }
    Ok(())
}

async fn exists(account: &Account, bucket: u8, row_key: &str) -> Result<bool, Error> {
    let row = patiently(async || account.table.get::<Value>(&partition_key(bucket), row_key).await).await?;
    Ok(row.is_some())
}

impl Report {
    fn is_wrong(&self) -> bool {
        self.unreadable + self.overdue > 0
            || !self.records_without_index_row.is_empty()
            || !self.events_without_record.is_empty()
    }
}

fn print(json: bool, report: &Report) -> Result<()> {
    if json {
        return print_json(report);
    }
    let Report { bucket, records, index_rows, events, unreadable, overdue, .. } = report;
    print_line(&format!(
        "bucket {bucket:2}  records {records}  index rows {index_rows}  events {events}  unreadable {unreadable}  overdue {overdue}"
    ))?;
    let wrong = report.records_without_index_row.iter().map(|row| ("    never purged, no index row", row.clone()));
    let wrong = wrong.chain(report.events_without_record.iter().map(|row| ("    event without record", row.clone())));
    print_lines(&wrong.collect::<Vec<_>>())
}
