//! A scenario: a failure, and the outcome that is expected.

use super::step::Step;
use local_host::Invocation;
use std::fmt;
use test_storage::Fault;

pub(super) struct Scenario {
    pub(super) failure: Failure,
    pub(super) seen: Seen,
}

impl Scenario {
    pub(super) fn name(&self) -> String {
        format!("{} | {}", self.failure.step(), self.failure.fault())
    }
}

/// The outcome for the one message and its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) deliveries: Vec<Delivery>,
    /// Records of the order.
    pub(super) records: usize,
    /// Copies of its event that the deliveries published, and the timer.
    pub(super) published: [usize; 2],
    /// Copies of the message in quarantine.
    pub(super) quarantined: usize,
}

/// The outcome of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The host, or its handler, did not live to see the end.
    Killed,
    /// The host was answered this, and delivers again.
    Failed(String),
    Committed,
    Duplicate,
    Quarantined,
    /// A copy of the message is on the queue.
    GivenBack,
}

impl Delivery {
    pub(super) fn of(invocation: &Invocation) -> Self {
        let Invocation { succeeded, status, reason, return_value, logs, .. } = invocation;
        let is_given_back = logs.iter().any(|line| line.starts_with("Given back: "));
        let is_duplicate = logs.first().is_some_and(|line| line.starts_with("Duplicate message detected"));
        match (succeeded, status) {
            (false, None) => Self::Killed,
            (false, Some(_)) => Self::Failed(reason.clone().unwrap_or_default()),
            (true, _) if is_given_back => Self::GivenBack,
            (true, _) if return_value.is_none() => Self::Quarantined,
            (true, _) if is_duplicate => Self::Duplicate,
            (true, _) => Self::Committed,
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => formatter.write_str("killed"),
            Self::Failed(reason) => write!(formatter, "failed (*{reason}*)"),
            Self::Committed => formatter.write_str("committed"),
            Self::Duplicate => formatter.write_str("duplicate"),
            Self::Quarantined => formatter.write_str("quarantined"),
            Self::GivenBack => formatter.write_str("given back"),
        }
    }
}

/// The progress of a request at which something is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The service has not seen it.
    Before,
    /// The service has carried it out, and the answer is on its way.
    After,
    /// The service has refused it, and asked for a pause of 4 s.
    Pause,
}

/// When a commit that was given up is applied after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    BeforeTheRead,
    AfterTheSecondTry,
    AfterTheDeliveryEnded,
}

/// A failure that is injected.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// SIGKILL for the handler; the host goes on.
    KillHandler(Step, Moment),
    /// The same while the timer publishes what the delivery could not.
    KillHandlerInTick(Step, Moment),
    /// An end without a word for host and handler, as of their machine; another one takes over.
    KillHost(Step, Moment),
    /// The same for a message that is quarantined.
    KillHostRejecting(Step, Moment),
    KillHandlerRejecting(Step, Moment),
    /// SIGKILL for the handler while it holds the message because the table is away.
    KillHandlerHolding,
    /// SIGKILL for the handler while it puts back a message whose commit was refused.
    KillHandlerGivingBack(Moment),
    /// The same while the timer moves a message from the poison queue to quarantine.
    KillHandlerParking(Step, Moment),
    /// The first so many requests meet a fault. It is over when the first delivery is.
    Wire(Step, usize, Fault),
    /// The same for a message that is quarantined.
    WireRejecting(Step, usize, Fault),
    /// The commit is refused, and the first request to put the message back meets a fault.
    WireGivingBack(Fault),
    /// The first request of the timer to move a message from the poison queue meets a fault.
    WireParking(Step, Fault),
    LateCommit(Late),
    TwoProcessesAtOnce,
    VisibilityLost,
    /// Until the first delivery has ended.
    TablesDown,
    TableDeleted,
    StorageRestartedBetweenOrders,
    StorageRestartedDuringCommit,
    WrongKey,
    /// The handler's clock is off by so many hours. Azure refuses what is signed more than 15 minutes off; within, or
    /// on an emulator, it is answered.
    Clock {
        hours: i64,
        refused: bool,
    },
}

/// Every request of this kind.
pub(super) const ALWAYS: usize = usize::MAX;

impl Failure {
    /// Returns the step at which it is injected, for the document.
    pub(super) fn step(&self) -> String {
        match self {
            Self::KillHandler(step, _) | Self::KillHandlerInTick(step, _) => step.to_string(),
            Self::KillHandlerRejecting(step, _) | Self::KillHandlerParking(step, _) => step.to_string(),
            Self::KillHost(step, _) | Self::KillHostRejecting(step, _) | Self::Wire(step, ..) => step.to_string(),
            Self::WireRejecting(step, ..) | Self::WireParking(step, _) => step.to_string(),
            Self::KillHandlerHolding => Step::UseTable.to_string(),
            Self::KillHandlerGivingBack(_) | Self::WireGivingBack(_) => Step::PutBack.to_string(),
            Self::LateCommit(_) | Self::TableDeleted | Self::StorageRestartedDuringCommit => Step::Commit.to_string(),
            Self::TwoProcessesAtOnce | Self::VisibilityLost => "deliver the message (host)".to_owned(),
            Self::TablesDown | Self::StorageRestartedBetweenOrders | Self::WrongKey | Self::Clock { .. } => {
                "any".to_owned()
            }
        }
    }

    /// Returns the failure itself, for the document.
    pub(super) fn fault(&self) -> String {
        match self {
            Self::KillHandler(_, moment) => format!("handler killed {}", at(*moment)),
            Self::KillHandlerInTick(_, moment) => format!("by the timer; handler killed {}", at(*moment)),
            Self::KillHandlerRejecting(_, moment) => format!("rejected message: handler killed {}", at(*moment)),
            Self::KillHandlerHolding => {
                "refused with 503, every time; handler killed while it holds the message".to_owned()
            }
            Self::KillHandlerGivingBack(moment) => format!("after a throttled commit: handler killed {}", at(*moment)),
            Self::KillHandlerParking(_, moment) => {
                format!("message that the host gave up: handler killed {}", at(*moment))
            }
            Self::KillHost(_, moment) => format!("host and handler killed {}", at(*moment)),
            Self::KillHostRejecting(_, moment) => format!("rejected message: host and handler killed {}", at(*moment)),
            Self::Wire(_, count, fault) => format!("{}{}", wire(fault), times(*count)),
            Self::WireRejecting(_, count, fault) => format!("rejected message: {}{}", wire(fault), times(*count)),
            Self::WireGivingBack(fault) => format!("after a throttled commit: {}", wire(fault)),
            Self::WireParking(_, fault) => format!("message that the host gave up: {}", wire(fault)),
            Self::LateCommit(Late::BeforeTheRead) => "given up after 5 s, applied before the read".to_owned(),
            Self::LateCommit(Late::AfterTheSecondTry) => {
                "given up after 5 s, applied after the next delivery's".to_owned()
            }
            Self::LateCommit(Late::AfterTheDeliveryEnded) => {
                "given up after 5 s, read refused, applied later".to_owned()
            }
            Self::TwoProcessesAtOnce => "to two processes at the same instant".to_owned(),
            Self::VisibilityLost => "again, to another process, before the first commits".to_owned(),
            Self::TablesDown => "tables down, and up again".to_owned(),
            Self::TableDeleted => "first of its process, table deleted under it".to_owned(),
            Self::StorageRestartedBetweenOrders => "storage restarted between two orders".to_owned(),
            Self::StorageRestartedDuringCommit => "carried out, then storage, host and handler restarted".to_owned(),
            Self::WrongKey => "wrong account key; then an instance with the right one".to_owned(),
            Self::Clock { hours, refused: true } => {
                format!("clock {hours:+} h, signatures refused by the table; then an instance with the right time")
            }
            Self::Clock { hours, .. } => format!("clock {hours:+} h; duplicate to an instance with the right time"),
        }
    }
}

fn at(moment: Moment) -> &'static str {
    match moment {
        Moment::Before => "before the service has the request",
        Moment::After => "after the service has carried it out",
        Moment::Pause => "in the pause that the service asked for",
    }
}

fn times(count: usize) -> String {
    match count {
        1 => String::new(),
        ALWAYS => ", every time".to_owned(),
        count => format!(", {count} times"),
    }
}

fn wire(fault: &Fault) -> String {
    let details = |headers: &[(&str, String)]| match headers {
        [("retry-after", seconds)] => format!(" and `Retry-After: {seconds}`"),
        [("x-ms-error-code", code)] => format!(" `{code}`"),
        _ => String::new(),
    };
    match fault {
        Fault::DropRequest => "request lost".to_owned(),
        Fault::Reset => "connection reset, request lost".to_owned(),
        Fault::Hang => "request lost, no answer for 5 s".to_owned(),
        Fault::Garbage => "request lost, answered with garbage".to_owned(),
        Fault::DropReply => "carried out, reply lost".to_owned(),
        Fault::HangReply => "carried out, no answer for 5 s".to_owned(),
        Fault::CutRequest => "connection reset in the middle of the request".to_owned(),
        Fault::CutReply => "carried out, connection reset in the middle of the reply".to_owned(),
        Fault::FalseReply(status, ..) => format!("carried out, but answered {status}"),
        Fault::Status(202, ..) => "request lost, answered with an empty 202".to_owned(),
        Fault::Status(status, headers, _) => format!("refused with {status}{}", details(headers)),
        other => format!("{other:?}"),
    }
}
