//! The requests that one delivery makes: the places where a failure can be injected.

use crate::app::{App, is_probe};
use std::fmt;
use test_storage::{Fault, FaultProxy, Kind, Request};

/// A request, in the order in which a delivery makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    CreateTable,
    Commit,
    ReadRecord,
    CreateQueue,
    Put,
    DeleteOutboxRow,
    Quarantine,
    PutBack,
    /// The host's, not the handler's.
    DeleteMessage,
    /// The timer's, like the next.
    ReceivePoison,
    DeletePoison,
    /// Any request to the table.
    UseTable,
}

impl Step {
    pub(super) fn is(self, request: &Request) -> bool {
        let Request { kind, target, method, .. } = request;
        let queue = |name: &str| target.contains(&format!("/{name}/messages"));
        match self {
            Self::CreateTable => *kind == Kind::CreateTable,
            Self::Commit => *kind == Kind::Batch && !is_probe(request),
            Self::ReadRecord => *kind == Kind::GetEntity,
            Self::CreateQueue => *kind == Kind::CreateQueue && target.contains("/order-events"),
            Self::Put => *kind == Kind::PutMessage && queue("order-events"),
            Self::DeleteOutboxRow => *kind == Kind::Delete,
            Self::Quarantine => *kind == Kind::PutMessage && queue("orders-quarantine"),
            Self::PutBack => *kind == Kind::PutMessage && queue("orders"),
            Self::DeleteMessage => method == "DELETE" && queue("orders"),
            Self::ReceivePoison => *kind == Kind::GetMessages && queue("orders-poison"),
            Self::DeletePoison => method == "DELETE" && queue("orders-poison"),
            Self::UseTable => true,
        }
    }

    /// Returns the proxy that sees this request.
    pub(super) fn proxy(self, app: &App) -> &FaultProxy {
        match self {
            Self::CreateTable | Self::Commit | Self::ReadRecord | Self::DeleteOutboxRow | Self::UseTable => &app.tables,
            _ => &app.queues,
        }
    }

    /// Injects `fault` into the first `count` of these requests; the others of the same proxy pass.
    pub(super) fn inject(self, app: &App, count: usize, fault: Fault) {
        self.proxy(app).set_rule(self.rule(count, fault, |_| Fault::Pass));
    }

    /// Makes a rule for the first `count` of these requests, and another for all others.
    pub(super) fn rule(
        self,
        mut count: usize,
        fault: Fault,
        otherwise: impl Fn(&Request) -> Fault,
    ) -> impl FnMut(&Request) -> Fault {
        move |request| {
            if count == 0 || !self.is(request) {
                return otherwise(request);
            }
            count -= 1;
            fault.clone()
        }
    }

    pub(super) fn arrived(self, app: &App) -> usize {
        self.proxy(app).requests().iter().filter(|request| self.is(request)).count()
    }

    pub(super) fn carried_out(self, app: &App) -> usize {
        self.proxy(app).carried_out().iter().filter(|request| self.is(request)).count()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CreateTable => "create the table",
            Self::Commit => "commit the order",
            Self::ReadRecord => "read the record",
            Self::CreateQueue => "create the queue of events",
            Self::Put => "publish the event",
            Self::DeleteOutboxRow => "delete the row of the event",
            Self::Quarantine => "put into quarantine",
            Self::PutBack => "put the message back",
            Self::DeleteMessage => "delete the message (host)",
            Self::ReceivePoison => "receive from the poison queue",
            Self::DeletePoison => "delete from the poison queue",
            Self::UseTable => "use the table",
        })
    }
}

/// Hides a received message for a second instead of ten minutes, after which the message of a dead host comes back.
pub(super) fn short_visibility(request: &Request) -> Fault {
    if !request.target.contains("visibilitytimeout=600") {
        return Fault::Pass;
    }
    let target = request.target.replace("visibilitytimeout=600", "visibilitytimeout=1");
    Fault::Instead(Request { target, ..request.clone() })
}
