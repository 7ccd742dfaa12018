//! One invocation: the call, the judgement, the outputs, and the lines the host prints about it.
//!
//! `FunctionExecutor`, `WorkerFunctionInvoker` and `DefaultHttpWorkerService` of the host in one place.
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script/Workers/Http>

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use tokio::sync::watch;
use uuid::Uuid;

use test_storage::Account;

use crate::{
    bindings::{App, Function, MessageEncoding, Output},
    call::{Call, Running},
    console::Console,
    failure::{Failure, time_span},
    handler_client::{Framing, HandlerClient},
    json::Json,
    outputs::messages,
    response::{Answer, Reply, Verdict, judge},
    worker::Worker,
};

/// A function that ran out of time gets this long to notice.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);
/// With one of these settings the host reports to Application Insights, and its requests carry a trace.
const TRACING: [&str; 2] = ["APPLICATIONINSIGHTS_CONNECTION_STRING", "APPINSIGHTS_INSTRUMENTATIONKEY"];

/// The connection of the host's own storage.
pub(crate) const STORAGE: &str = "AzureWebJobsStorage";
/// The cure for a connection that is not the emulator's.
const EMULATOR: &str = "set it to UseDevelopmentStorage=true, or use Core Tools (`func start`)";

/// A finished invocation.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// The function's name.
    pub function: String,
    /// The invocation id; a scheduled tick keeps it through all attempts.
    pub id: Uuid,
    /// 0 at the first attempt of a retry policy.
    pub attempt: u32,
    /// The dequeue count of the message; none for timers.
    pub dequeue_count: Option<u32>,
    /// The text of the message; none for timers.
    pub message: Option<String>,
    /// Whether the host counts it as a success.
    pub succeeded: bool,
    /// The handler's HTTP status, if it answered.
    pub status: Option<u16>,
    /// The handler's reason phrase, if it answered.
    pub reason: Option<String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// The same for the next attempt.
    pub(crate) cause: Option<Failure>,
    /// `ReturnValue` of the answer.
    pub return_value: Option<serde_json::Value>,
    /// `Logs` of the answer.
    pub logs: Vec<String>,
    /// The body of the answer, whatever it is.
    pub response_body: String,
    /// Its duration.
    pub duration: Duration,
}

impl Invocation {
    /// Reads the line that a host prints at the end of an invocation. It tells function, id, outcome and duration.
    pub fn from_line(line: &str) -> Option<Self> {
        let (function, rest) = line.strip_prefix("Executed 'Functions.")?.split_once("' (")?;
        let (outcome, rest) = rest.split_once(", Id=")?;
        let (id, duration) = rest.strip_suffix("ms)")?.split_once(", Duration=")?;
        Some(Self {
            function: function.to_owned(),
            id: id.parse().ok()?,
            succeeded: outcome == "Succeeded",
            duration: Duration::from_millis(duration.parse().ok()?),
            ..Self::default()
        })
    }
}

/// Runs invocations and remembers them.
pub(crate) struct Invoker {
    pub(crate) worker: Worker,
    pub(crate) console: Arc<Console>,
    /// Wakes the queue listeners: an output of this host may be what they wait for.
    pub(crate) message_written: watch::Sender<()>,
    client: HandlerClient,
    function_timeout: Option<Duration>,
    encoding: MessageEncoding,
    accounts: BTreeMap<String, Account>,
    running: Mutex<Vec<Running>>,
    finished: Mutex<Vec<Invocation>>,
    changed: watch::Sender<usize>,
}

impl Invoker {
    pub(crate) fn new(app: &App, worker: Worker, console: Arc<Console>, framing: Framing) -> Result<Self> {
        let traced = TRACING.iter().any(|setting| app.setting(setting).is_some());
        let client = HandlerClient::new(worker.port, framing, traced);
        let connections = app.functions.iter().flat_map(Function::connections);
        // The host's own storage, where timers keep their status.
        let accounts =
            connections.chain([STORAGE]).map(|connection| Ok((connection.to_owned(), account(app, connection)?)));
        let accounts = accounts.collect::<Result<_>>()?;
        Ok(Self {
            worker,
            console,
            message_written: watch::Sender::new(()),
            client,
            function_timeout: app.host.function_timeout,
            encoding: app.host.queues.message_encoding,
            accounts,
            running: Mutex::default(),
            finished: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    pub(crate) fn account(&self, connection: &str) -> Result<&Account> {
        self.accounts.get(connection).with_context(|| format!("no account for connection '{connection}'"))
    }

    /// Returns the running invocations, in the order of their starts.
    pub(crate) fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn finished(&self) -> MutexGuard<'_, Vec<Invocation>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with each finished invocation.
    pub(crate) fn changes(&self) -> watch::Receiver<usize> {
        self.changed.subscribe()
    }

    /// Runs one attempt to its end.
    pub(crate) async fn invoke(&self, call: Call<'_>) -> Invocation {
        let Call { function, id, .. } = call;
        let name = &function.name;
        let start = Instant::now();
        let message = call.message.map(str::to_owned);
        let running =
            Running { id, function: name.clone(), dequeue_count: call.dequeue_count, message: message.clone(), start };
        self.running().push(running);
        self.console.information(format!("Executing 'Functions.{name}' (Reason='{}', Id={id})", call.reason));
        if let Some(details) = &call.details {
            self.console.information(format!("Trigger Details: {details}"));
        }
        let (answer, result) = self.run(&call).await;
        let duration = start.elapsed();
        let outcome = if result.is_ok() { "Succeeded" } else { "Failed" };
        let line = format!("Executed 'Functions.{name}' ({outcome}, Id={id}, Duration={}ms)", duration.as_millis());
        match &result {
            Ok(_) => self.console.information(line),
            Err(failure) => {
                self.console.error(line);
                let error = format!("System.Private.CoreLib: Exception while executing function: Functions.{name}.");
                self.console.error(format!("{error} {failure}"));
            }
        }
        let answered = answer.status != 0;
        let (reply, cause) = result.map_or_else(|failure| (Reply::default(), Some(failure)), |reply| (reply, None));
        let invocation = Invocation {
            function: name.clone(),
            id,
            attempt: call.attempt,
            dequeue_count: call.dequeue_count,
            message,
            succeeded: cause.is_none(),
            status: answered.then_some(answer.status),
            reason: answered.then_some(answer.reason),
            failure: cause.as_ref().map(Failure::to_string),
            cause,
            return_value: reply.return_value.and_then(|_| sent_return_value(&answer.body)),
            logs: reply.logs,
            response_body: String::from_utf8_lossy(&answer.body).into_owned(),
            duration,
        };
        self.finished().push(invocation.clone());
        self.running().retain(|running| running.id != id);
        self.changed.send_modify(|count| *count += 1);
        invocation
    }

    async fn run(&self, call: &Call<'_>) -> (Answer, Result<Reply, Failure>) {
        let mut answer = Answer::default();
        if let Err(error) = self.worker.ready().await {
            return (answer, Err(Failure::Thrown(None, format!("{error:#}"))));
        }
        let process = self.worker.id();
        let result = {
            // Kept until the handler is dead: the host gives no sign, not even a closed connection.
            let mut result = pin!(self.call(call, &mut answer));
            match self.function_timeout {
                None => result.await,
                Some(limit) => match tokio::time::timeout(limit, &mut result).await {
                    Ok(result) => result,
                    Err(_) => Err(self.time_out(call, limit, process).await),
                },
            }
        };
        (answer, result)
    }

    async fn call(&self, call: &Call<'_>, slot: &mut Answer) -> Result<Reply, Failure> {
        *slot = self.client.post(call).await.map_err(|error| broken(&error.to_string()))?;
        match judge(slot) {
            Verdict::Failure(failure) => Err(Failure::of_http(failure)),
            // Nothing completes the invocation; only the timeout around this ends it.
            Verdict::NeverEnds => std::future::pending().await,
            Verdict::Success(reply) => {
                for line in &reply.logs {
                    self.console.information(line);
                }
                let written = self.write_outputs(call.function, &reply).await;
                written.map_err(|error| Failure::Thrown(None, format!("{error:#}")))?;
                Ok(reply)
            }
        }
    }

    /// Kills the handler, and with it every other invocation in flight.
    async fn time_out(&self, call: &Call<'_>, limit: Duration, process: Option<i32>) -> Failure {
        let name = &call.function.name;
        let text = format!("Timeout value of {} exceeded by function 'Functions.{name}'", time_span(limit));
        self.console.error(format!("{text} (Id: '{}'). Initiating cancellation.", call.id));
        tokio::time::sleep(TIMEOUT_GRACE).await;
        self.worker.restart(process).await;
        Failure::TimedOut(name.clone(), limit)
    }

    /// Writes all of them, whatever becomes of one: an invocation that fails may have written others.
    async fn write_outputs(&self, function: &Function, reply: &Reply) -> Result<()> {
        let writes = function.outputs.iter().map(async |output| {
            // Names are case-sensitive; undeclared ones are ignored. A return value that is an object counts as outputs.
            let declared = reply.outputs.iter().find(|(name, _)| *name == output.name).map(|(_, value)| value);
            let returned = reply.return_value.as_ref().and_then(|value| value.member(&output.name));
            let value = declared.or(returned);
            let context = || format!("Error while writing output '{}' to queue '{}'", output.name, output.queue);
            self.write_output(output, value.unwrap_or(&Json::Null)).await.with_context(context)
        });
        join_all(writes).await.into_iter().collect()
    }

    async fn write_output(&self, output: &Output, value: &Json) -> Result<()> {
        let account = self.account(&output.connection)?;
        for message in messages(value)? {
            account.put(&output.queue, &self.encoding.encode(&message)).await?;
        }
        self.message_written.send_replace(());
        Ok(())
    }
}

/// Opens the account of a connection.
fn account(app: &App, connection: &str) -> Result<Account> {
    let text = app.connection_string(connection).unwrap_or_default();
    let account = Account::from_connection_string(text);
    account.with_context(|| format!("setting '{connection}': the local host works over the emulator only: {EMULATOR}"))
}

fn broken(cause: &str) -> Failure {
    Failure::of_http(format!("An error occurred while sending the request. {cause}"))
}

/// Returns the return value as it was sent; the host's own reading of it rewrites times and numbers.
fn sent_return_value(body: &[u8]) -> Option<serde_json::Value> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<serde_json::Map<_, _>>();
    let members = values.next()?.ok()?;
    members.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("ReturnValue")).map(|(_, value)| value)
}
