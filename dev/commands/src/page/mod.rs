//! The live page of `cargo start`: what lies in storage, what is delivered, and whether the promises are kept; with buttons
//! that send messages and make trouble.
//!
//! It belongs to these commands and not to the local host, which knows nothing of orders, their table or their samples. It
//! is served on loopback, to pages of its own origin: see [`server`].

mod server;
mod watch;
mod trouble;
mod ledger;
mod deliveries;
mod orders;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch::Sender};

use local_host::LocalHost;
use test_storage::Account;
use workspace::Sample;

use crate::queues::{ORDERS, TIMER};

use orders::Orders;
use trouble::{Proxies, Trouble};
use watch::Watch;

pub(crate) use watch::console_line;

/// The number of messages that are put at the same time.
const AT_ONCE: usize = 16;
/// The buttons that need the local host, and those that send.
const LOCAL: [&str; 4] = ["kill", "cut", "slow", "lose"];
const SENDING: [&str; 5] = ["order", "again", "conflict", "nonsense", "thousand"];

/// A page that is served.
pub(crate) struct Page {
    shared: Arc<Shared>,
}

/// The account that the page shows, and the proxies through which the app reaches it.
pub(crate) struct Storage {
    account: Account,
    proxies: Option<Proxies>,
}

/// The state that the server, the buttons and the watch share.
struct Shared {
    state: Sender<String>,
    orders: Option<Orders>,
    /// The messages that storage has acknowledged since the last look.
    sent: Mutex<Vec<String>>,
    trouble: Arc<Trouble>,
    kill: Notify,
    app: OnceLock<App>,
    is_ready: AtomicBool,
}

/// The app that the buttons are about.
struct App {
    account: Account,
    is_local: bool,
    admin_port: Option<u16>,
}

impl Page {
    /// Serves a page and prints its address. It shows that storage is starting until [`Self::watch`].
    pub(crate) async fn open(port: u16, samples: &[Sample]) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Sender::new(json!({ "stage": "Storage and handler are starting." }).to_string()),
            orders: Orders::new(samples),
            sent: Mutex::default(),
            trouble: Arc::default(),
            kill: Notify::new(),
            app: OnceLock::new(),
            is_ready: AtomicBool::new(false),
        });
        let port = server::serve(port, Arc::clone(&shared)).await?;
        println!("Page:      http://127.0.0.1:{port}");
        Ok(Self { shared })
    }

    /// Puts proxies in front of the app's storage.
    pub(crate) async fn proxied(&self, account: Account) -> Result<Storage> {
        let proxies = Some(Proxies::start(&account, &self.shared.trouble).await?);
        Ok(Storage { account, proxies })
    }

    /// Shows a storage, and a host if it is the local one, until this is dropped.
    pub(crate) async fn watch(
        &self,
        storage: &Storage,
        host: Option<&LocalHost>,
        admin_port: Option<u16>,
    ) -> Infallible {
        let (account, is_local) = (storage.account.clone(), host.is_some());
        self.shared.app.get_or_init(|| App { account, is_local, admin_port });
        let kill = async {
            while let Some(host) = host {
                self.shared.kill.notified().await;
                host.restart_worker().await;
            }
        };
        tokio::join!(Watch::new(&self.shared, storage, host).run(), kill).0
    }
}

impl Storage {
    /// Shows an account that others use.
    pub(crate) fn alone(account: Account) -> Self {
        Self { account, proxies: None }
    }

    /// Returns the account as the app is to reach it.
    pub(crate) fn app_account(&self) -> Account {
        self.proxies.as_ref().map_or_else(|| self.account.clone(), |proxies| proxies.account(&self.account))
    }
}

impl Shared {
    fn show(&self, state: &Value) {
        let state = state.to_string();
        self.state.send_if_modified(|shown| {
            let is_new = *shown != state;
            *shown = state;
            is_new
        });
    }

    fn recognise(&self, text: &str) -> Option<(u32, bool)> {
        self.orders.as_ref()?.recognise(text)
    }

    /// Does what a button says, and tells what was done.
    async fn press(&self, button: &str) -> Result<String> {
        let app = self.app.get().filter(|_| self.is_ready.load(Relaxed)).context("The app is still starting.")?;
        if let Some(reason) = self.disabled().get(button).and_then(Value::as_str) {
            bail!("{reason}");
        }
        let trouble = &self.trouble;
        match button {
            "kill" => {
                self.kill.notify_one();
                Ok("The handler is killed, and started again.".to_owned())
            }
            "cut" => Ok(switch(&trouble.cut, ["The table is cut off.", "The table is back."])),
            "slow" => Ok(switch(&trouble.slow, ["Each request takes a second longer.", "Storage is fast again."])),
            "lose" => Ok(switch(&trouble.lose, ["Every second write loses its reply.", "Replies arrive again."])),
            "timer" => fire_timer(app.admin_port.unwrap_or_default()).await,
            _ => self.send(app, button).await,
        }
    }

    async fn send(&self, app: &App, button: &str) -> Result<String> {
        let orders = self.orders.as_ref().context("There is nothing to send.")?;
        let texts = match button {
            "order" => orders.next(1),
            "again" => vec![orders.again()],
            "conflict" => vec![orders.conflict()],
            "nonsense" => vec![orders.nonsense()],
            "thousand" => orders.next(1_000),
            other => bail!("There is no button '{other}'."),
        };
        let said = match &texts[..] {
            [text] => format!("Sent {text}"),
            texts => format!("Sent {} orders.", texts.len()),
        };
        let puts = stream::iter(texts).map(async |text| {
            app.account.put(ORDERS, &text).await?;
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            anyhow::Ok(())
        });
        puts.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(said)
    }

    /// Returns what is switched on.
    fn switches(&self) -> Value {
        let Trouble { cut, slow, lose, .. } = &*self.trouble;
        json!({ "cut": cut.load(Relaxed), "slow": slow.load(Relaxed), "lose": lose.load(Relaxed) })
    }

    /// Returns the buttons that cannot be used, with the reason.
    fn disabled(&self) -> Value {
        let Some(app) = self.app.get() else { return json!({}) };
        let mut disabled = json!({});
        for button in LOCAL.iter().filter(|_| !app.is_local) {
            disabled[button] = "needs the local host: cargo start --host local".into();
        }
        if app.admin_port.is_none() {
            disabled["timer"] = "needs a host on a known port".into();
        }
        for button in SENDING.iter().filter(|_| self.orders.is_none()) {
            disabled[button] = "needs a sample of each kind in samples/, whose id is a string".into();
        }
        disabled
    }
}

fn switch(switch: &AtomicBool, [on, off]: [&str; 2]) -> String {
    if switch.fetch_not(Relaxed) { off } else { on }.to_owned()
}

/// Starts a run of the timer, which goes on by itself.
async fn fire_timer(port: u16) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://127.0.0.1:{port}/admin/functions/{TIMER}");
    let Ok(answer) = client.post(url).header("content-type", "application/json").body("{}").send().await else {
        bail!("No host answers on port {port}: is `func start` running?");
    };
    ensure!(answer.status().is_success(), "The host answered {}.", answer.status());
    Ok("The timer is fired.".to_owned())
}
