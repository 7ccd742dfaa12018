//! The table of scenarios: one row of `docs/crash-matrix.md` each.

use super::{
    scenario::{ALWAYS, Delivery, Failure, Late, Moment, Scenario, Seen},
    step::Step,
};
use Delivery::{Committed, Duplicate, GivenBack, Killed, Quarantined};
use Failure::{
    Clock, KillHandler, KillHandlerGivingBack, KillHandlerInTick, KillHandlerParking, KillHandlerRejecting, KillHost,
    KillHostRejecting, LateCommit, Wire, WireGivingBack, WireParking, WireRejecting,
};
use Moment::{After, Before, Pause};
use Step::{
    Commit, CreateQueue, CreateTable, DeleteMessage, DeleteOutboxRow, DeletePoison, Put, Quarantine, ReadRecord,
    ReceivePoison, UseTable,
};
use test_storage::Fault;

const STUCK: &str = "Storage is away and the message cannot be put back";

pub(super) fn all() -> Vec<Scenario> {
    let tables = [
        crashes(),
        crashes_in_ticks(),
        commits(),
        late_commits(),
        reads(),
        publications(),
        first_orders(),
        hosts(),
        outages(),
        put_backs(),
        rejections(),
        parkings(),
    ];
    let mut all: Vec<_> = tables.into_iter().flatten().collect();
    // The clock of another process can be shifted on Linux only.
    if cfg!(target_os = "linux") {
        all.extend(clocks());
    }
    all
}

fn crashes() -> Vec<Scenario> {
    vec![
        row(KillHandler(CreateTable, Before), [Killed, Committed], [1, 0]),
        row(KillHandler(CreateTable, After), [Killed, Committed], [1, 0]),
        row(KillHandler(Commit, Pause), [Killed, Committed], [1, 0]),
        row(KillHandler(Commit, Before), [Killed, Committed], [1, 0]),
        row(KillHandler(Commit, After), [Killed, Duplicate], [1, 0]),
        row(KillHandler(CreateQueue, Before), [Committed], [0, 1]),
        row(KillHandler(CreateQueue, After), [Committed], [0, 1]),
        row(KillHandler(Put, Before), [Committed], [0, 1]),
        row(KillHandler(Put, After), [Committed], [1, 1]),
        row(KillHandler(DeleteOutboxRow, Before), [Committed], [1, 1]),
        row(KillHandler(DeleteOutboxRow, After), [Committed], [1, 0]),
        row(KillHandler(DeleteMessage, Before), [Committed], [1, 0]),
        row(KillHandler(ReadRecord, Before), [Committed, Killed, Duplicate], [1, 0]),
        row(KillHandler(ReadRecord, After), [Committed, Killed, Duplicate], [1, 0]),
    ]
}

fn crashes_in_ticks() -> Vec<Scenario> {
    vec![
        row(KillHandlerInTick(Put, Before), [Committed], [0, 1]),
        row(KillHandlerInTick(Put, After), [Committed], [0, 2]),
        row(KillHandlerInTick(DeleteOutboxRow, Before), [Committed], [0, 2]),
        row(KillHandlerInTick(DeleteOutboxRow, After), [Committed], [0, 1]),
    ]
}

fn commits() -> Vec<Scenario> {
    vec![
        row(Wire(Commit, 1, Fault::DropRequest), [Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::Reset), [Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::CutRequest), [Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::Hang), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::Garbage), [Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::DropReply), [Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::HangReply), [Committed], [1, 0]),
        row(Wire(Commit, 1, Fault::CutReply), [Committed], [1, 0]),
        row(Wire(Commit, 1, false_reply(500)), [Committed], [1, 0]),
        row(Wire(Commit, 1, status(429)), [Committed], [1, 0]),
        row(Wire(Commit, 1, status(500)), [Committed], [1, 0]),
        row(Wire(Commit, 1, status(503)), [Committed], [1, 0]),
        row(Wire(Commit, 1, asking(429, 1)), [Committed], [1, 0]),
        row(Wire(Commit, 1, asking(500, 1)), [Committed], [1, 0]),
        row(Wire(Commit, 1, asking(503, 1)), [Committed], [1, 0]),
        row(Wire(Commit, 3, being_deleted()), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, status(400)), [failed("Storage refused the request"), Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, status(403)), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, status(500)), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, status(503)), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, asking(503, 600)), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, Fault::Garbage), [GivenBack, Committed], [1, 0]),
        row(Wire(Commit, ALWAYS, empty_batch()), [GivenBack, Committed], [1, 0]),
        row(Failure::TableDeleted, [Committed], [1, 0]),
    ]
}

fn late_commits() -> Vec<Scenario> {
    vec![
        row(LateCommit(Late::BeforeTheRead), [Committed], [1, 0]),
        row(LateCommit(Late::AfterTheSecondTry), [GivenBack, Committed], [1, 0]),
        row(LateCommit(Late::AfterTheDeliveryEnded), [GivenBack, Duplicate], [0, 1]),
    ]
}

fn reads() -> Vec<Scenario> {
    vec![
        row(Wire(ReadRecord, 1, Fault::DropRequest), [Committed, Duplicate], [1, 0]),
        row(Wire(ReadRecord, 1, Fault::HangReply), [Committed, GivenBack, Duplicate], [1, 0]),
        row(Wire(ReadRecord, 1, Fault::CutReply), [Committed, Duplicate], [1, 0]),
        row(Wire(ReadRecord, 1, status(503)), [Committed, Duplicate], [1, 0]),
        row(Wire(ReadRecord, ALWAYS, status(503)), [Committed, GivenBack, Duplicate], [1, 0]),
    ]
}

fn publications() -> Vec<Scenario> {
    vec![
        row(Wire(Put, 1, Fault::DropRequest), [Committed], [1, 0]),
        row(Wire(Put, 1, Fault::CutRequest), [Committed], [1, 0]),
        row(Wire(Put, 1, Fault::Hang), [Committed], [1, 0]),
        row(Wire(Put, 1, Fault::DropReply), [Committed], [2, 0]),
        row(Wire(Put, 1, Fault::HangReply), [Committed], [2, 0]),
        row(Wire(Put, 1, Fault::CutReply), [Committed], [2, 0]),
        row(Wire(Put, 1, false_reply(500)), [Committed], [2, 0]),
        row(Wire(Put, 1, status(503)), [Committed], [1, 0]),
        row(Wire(Put, 1, asking(429, 1)), [Committed], [1, 0]),
        row(Wire(Put, ALWAYS, status(403)), [Committed], [0, 1]),
        row(Wire(Put, ALWAYS, status(503)), [Committed], [0, 1]),
        row(Wire(DeleteOutboxRow, 1, Fault::DropRequest), [Committed], [1, 0]),
        row(Wire(DeleteOutboxRow, 1, Fault::DropReply), [Committed], [1, 0]),
        row(Wire(DeleteOutboxRow, 1, status(503)), [Committed], [1, 0]),
        row(Wire(DeleteOutboxRow, ALWAYS, status(503)), [Committed], [1, 1]),
    ]
}

fn first_orders() -> Vec<Scenario> {
    vec![
        row(Wire(CreateTable, 1, Fault::DropReply), [Committed], [1, 0]),
        row(Wire(CreateTable, 1, status(503)), [Committed], [1, 0]),
        row(Wire(CreateQueue, 1, Fault::DropReply), [Committed], [1, 0]),
        row(Wire(CreateQueue, 1, status(503)), [Committed], [1, 0]),
    ]
}

fn hosts() -> Vec<Scenario> {
    vec![
        row(KillHost(Commit, Before), [Killed, Committed], [1, 0]),
        row(KillHost(Commit, After), [Killed, Duplicate], [1, 0]),
        row(KillHost(Put, Before), [Committed], [0, 1]),
        row(KillHost(DeleteMessage, Before), [Committed, Duplicate], [1, 0]),
        kept(KillHostRejecting(Quarantine, After), [Killed, Quarantined], 2),
        kept(KillHostRejecting(DeleteMessage, Before), [Quarantined, Quarantined], 2),
        row(Failure::TwoProcessesAtOnce, [Committed, Duplicate], [1, 0]),
        row(Failure::VisibilityLost, [Committed, Duplicate], [1, 0]),
    ]
}

fn outages() -> Vec<Scenario> {
    vec![
        row(Wire(UseTable, ALWAYS, status(400)), [GivenBack, Committed], [1, 0]),
        row(Wire(UseTable, ALWAYS, status(403)), [GivenBack, Committed], [1, 0]),
        row(Wire(UseTable, ALWAYS, status(503)), [GivenBack, Committed], [1, 0]),
        row(Wire(UseTable, ALWAYS, Fault::Garbage), [GivenBack, Committed], [1, 0]),
        row(Failure::KillHandlerHolding, [Killed, Committed], [1, 0]),
        row(Failure::TablesDown, [GivenBack, Committed], [1, 0]),
        row(Failure::WrongKey, [failed(STUCK), Committed], [1, 0]),
        row(Failure::StorageRestartedBetweenOrders, [Committed], [1, 0]),
        row(Failure::StorageRestartedDuringCommit, [Killed, Duplicate], [1, 0]),
    ]
}

fn put_backs() -> Vec<Scenario> {
    vec![
        row(KillHandlerGivingBack(Before), [Killed, Committed], [1, 0]),
        row(KillHandlerGivingBack(After), [Killed, Committed, Duplicate], [1, 0]),
        row(WireGivingBack(Fault::DropRequest), [failed(STUCK), Committed], [1, 0]),
        row(WireGivingBack(Fault::DropReply), [failed(STUCK), Committed, Duplicate], [1, 0]),
        row(WireGivingBack(status(503)), [failed(STUCK), Committed], [1, 0]),
    ]
}

fn rejections() -> Vec<Scenario> {
    let refused = || failed("Storage refused the request");
    vec![
        kept(KillHandlerRejecting(Quarantine, Before), [Killed, Quarantined], 1),
        kept(KillHandlerRejecting(Quarantine, After), [Killed, Quarantined], 2),
        kept(KillHandlerRejecting(DeleteMessage, Before), [Quarantined], 1),
        kept(WireRejecting(Quarantine, 1, Fault::DropRequest), [Quarantined], 1),
        kept(WireRejecting(Quarantine, 1, Fault::DropReply), [Quarantined], 2),
        kept(WireRejecting(Quarantine, 1, status(503)), [Quarantined], 1),
        kept(WireRejecting(Quarantine, ALWAYS, status(400)), [refused(), Quarantined], 1),
        kept(WireRejecting(Quarantine, ALWAYS, status(403)), [GivenBack, Quarantined], 1),
        kept(WireRejecting(Quarantine, ALWAYS, status(503)), [GivenBack, Quarantined], 1),
    ]
}

fn parkings() -> Vec<Scenario> {
    vec![
        kept(KillHandlerParking(ReceivePoison, Before), [], 1),
        kept(KillHandlerParking(ReceivePoison, After), [], 1),
        kept(KillHandlerParking(Quarantine, Before), [], 1),
        kept(KillHandlerParking(Quarantine, After), [], 2),
        kept(KillHandlerParking(DeletePoison, Before), [], 2),
        kept(KillHandlerParking(DeletePoison, After), [], 1),
        kept(WireParking(ReceivePoison, Fault::DropRequest), [], 1),
        kept(WireParking(ReceivePoison, Fault::DropReply), [], 1),
        kept(WireParking(Quarantine, Fault::DropRequest), [], 1),
        kept(WireParking(Quarantine, Fault::DropReply), [], 2),
        kept(WireParking(DeletePoison, Fault::DropRequest), [], 2),
        kept(WireParking(DeletePoison, Fault::DropReply), [], 1),
    ]
}

fn clocks() -> Vec<Scenario> {
    let both = |hours| {
        [
            row(Clock { hours, refused: true }, [GivenBack, Committed], [1, 0]),
            row(Clock { hours, refused: false }, [Committed, Duplicate], [1, 0]),
        ]
    };
    [-5, 5].into_iter().flat_map(both).collect()
}

fn row<const N: usize>(failure: Failure, deliveries: [Delivery; N], published: [usize; 2]) -> Scenario {
    Scenario { failure, seen: Seen { deliveries: deliveries.into(), records: 1, published, quarantined: 0 } }
}

/// A message that is no order, so many times in quarantine.
fn kept<const N: usize>(failure: Failure, deliveries: [Delivery; N], quarantined: usize) -> Scenario {
    let scenario = row(failure, deliveries, [0, 0]);
    Scenario { seen: Seen { records: 0, quarantined, ..scenario.seen }, ..scenario }
}

fn failed(reason: &str) -> Delivery {
    Delivery::Failed(reason.to_owned())
}

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new(), String::new())
}

fn false_reply(status: u16) -> Fault {
    Fault::FalseReply(status, Vec::new(), String::new())
}

pub(super) fn asking(status: u16, seconds: u16) -> Fault {
    Fault::Status(status, vec![("retry-after", seconds.to_string())], String::new())
}

/// Accepts the batch and answers nothing about it.
fn empty_batch() -> Fault {
    let content_type = "multipart/mixed; boundary=batchresponse_1".to_owned();
    Fault::Status(202, vec![("content-type", content_type)], String::new())
}

/// Answers as Azure does for about forty seconds after a table was deleted.
fn being_deleted() -> Fault {
    Fault::Status(409, vec![("x-ms-error-code", "TableBeingDeleted".to_owned())], String::new())
}
