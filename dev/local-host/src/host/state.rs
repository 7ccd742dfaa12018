//! The state that the admin endpoint, the listeners and the tests share.
//!
//! A function started by hand and one that is triggered differ in what they are told and in nothing else, so both come
//! through here. `FunctionsController` and `ScriptHost` in <https://github.com/Azure/azure-functions-host/tree/dev/src>

use std::sync::{Arc, atomic::AtomicUsize};

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify};

use crate::{
    bindings::{App, Function, Trigger},
    envelope::QueueMessage,
    invocation::{Invocation, Invoker, STORAGE},
    queue_listener::{Delivery, QueueListener},
    shutdown::Shutdown,
    timer::{MANUAL_REASON, StatusBlob, Timer},
    timings::Timings,
};

/// The setting that names the host in storage, and what it is without it.
const HOST_ID: &str = "AzureFunctionsWebHost:hostId";
const DEFAULT_HOST_ID: &str = "localhost";

/// A loaded app and what runs it.
pub(crate) struct HostState {
    pub(crate) app: App,
    pub(crate) shutdown: Shutdown,
    pub(crate) timings: Timings,
    pub(super) invoker: Arc<Invoker>,
    pub(super) timers: Vec<Arc<Timer>>,
}

impl HostState {
    pub(crate) async fn invoke(&self, name: &str, input: Option<&str>) -> Result<Invocation> {
        if let Ok(timer) = self.timer(name) {
            return timer.run_by_hand(input).await;
        }
        let function = self.queue_function(name)?;
        let message = QueueMessage::manual(input.unwrap_or_default(), OffsetDateTime::now_utc());
        let delivery = Delivery { function, message: &message, reason: MANUAL_REASON };
        Ok(delivery.invoke(&self.invoker).await)
    }

    pub(super) fn listen(&self) -> Result<()> {
        for function in self.app.functions.iter().filter(|function| !function.disabled) {
            let Trigger::Queue { queue, connection } = &function.trigger else { continue };
            let listener = QueueListener {
                function: function.clone(),
                queue: queue.clone(),
                account: self.invoker.account(connection)?.clone(),
                options: self.app.host.queues.clone(),
                invoker: Arc::clone(&self.invoker),
                shutdown: self.shutdown.clone(),
                timings: self.timings,
                in_flight: AtomicUsize::new(0),
                one_done: Notify::new(),
            };
            self.shutdown.spawn(listener.run());
        }
        for timer in self.timers.iter().filter(|timer| !timer.function.disabled) {
            let timer = Arc::clone(timer);
            self.shutdown.spawn(async move { timer.run().await });
        }
        Ok(())
    }

    pub(super) fn timer(&self, name: &str) -> Result<&Arc<Timer>> {
        let timer = self.timers.iter().find(|timer| timer.function.name.eq_ignore_ascii_case(name));
        timer.with_context(|| format!("no timer function '{name}'"))
    }

    pub(super) fn queue_function(&self, name: &str) -> Result<&Function> {
        let function = self.app.function(name).with_context(|| format!("no function '{name}'"))?;
        match function.trigger {
            Trigger::Queue { .. } => Ok(function),
            Trigger::Timer { .. } => bail!("'{name}' is not a queue function"),
        }
    }
}

fn host_id(app: &App) -> &str {
    app.setting(HOST_ID).unwrap_or(DEFAULT_HOST_ID)
}

/// Makes the timers of the app, which do not tick yet.
pub(super) fn timers(
    app: &App,
    invoker: &Arc<Invoker>,
    shutdown: &Shutdown,
    timings: Timings,
) -> Result<Vec<Arc<Timer>>> {
    let account = invoker.account(STORAGE)?;
    let mut timers = Vec::new();
    for function in &app.functions {
        let Trigger::Timer { schedule, run_on_startup, use_monitor } = &function.trigger else { continue };
        timers.push(Arc::new(Timer {
            function: function.clone(),
            schedule: schedule.clone(),
            run_on_startup: *run_on_startup,
            use_monitor: *use_monitor,
            host_id: host_id(app).to_owned(),
            account: account.clone(),
            status: StatusBlob::new(account.clone(), host_id(app), &function.name),
            invoker: Arc::clone(invoker),
            shutdown: shutdown.clone(),
            timings,
            known: Mutex::default(),
        }));
    }
    Ok(timers)
}
