//! The trouble that somebody can make: two proxies between the app and its storage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;

use test_storage::{Account, Fault, FaultProxy, Kind, Request, Service};

/// Far more than storage takes, and so little that nothing times out.
const SLOW: Duration = Duration::from_secs(1);

/// The trouble that is switched on.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) cut: AtomicBool,
    pub(super) slow: AtomicBool,
    pub(super) lose: AtomicBool,
    writes: AtomicUsize,
}

impl Trouble {
    /// Decides about a request of the handler. The requests of the host itself pass, which would end with its storage.
    fn fault(&self, request: &Request) -> Fault {
        let is_write = matches!(request.kind, Kind::Batch | Kind::Insert | Kind::Delete | Kind::PutMessage);
        let is_of_queue = matches!(request.kind, Kind::PutMessage | Kind::GetMessages | Kind::GetQueue | Kind::Other);
        if is_of_queue && (request.kind != Kind::PutMessage || request.target.contains("-poison/")) {
            return Fault::Pass;
        }
        if !is_of_queue && self.cut.load(Relaxed) {
            return Fault::Reset;
        }
        if is_write && self.lose.load(Relaxed) && self.writes.fetch_add(1, Relaxed).is_multiple_of(2) {
            return Fault::DropReply;
        }
        if self.slow.load(Relaxed) { Fault::Delay(SLOW) } else { Fault::Pass }
    }
}

/// The proxies in front of tables and queues.
#[derive(Debug)]
pub(super) struct Proxies {
    pub(super) tables: FaultProxy,
    pub(super) queues: FaultProxy,
}

impl Proxies {
    pub(super) async fn start(account: &Account, trouble: &Arc<Trouble>) -> Result<Self> {
        let tables = FaultProxy::start(account, Service::Table).await?;
        let queues = FaultProxy::start(account, Service::Queue).await?;
        for proxy in [&tables, &queues] {
            let trouble = Arc::clone(trouble);
            proxy.set_rule(move |request| trouble.fault(request));
        }
        Ok(Self { tables, queues })
    }

    /// Returns the account as the app is to reach it.
    pub(super) fn account(&self, account: &Account) -> Account {
        self.queues.account(&self.tables.account(account))
    }
}
