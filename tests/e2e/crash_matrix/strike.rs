//! Strikes one scenario and watches what becomes of the order.

use super::{
    arrange::{ONE_AT_A_TIME, Storage, TWO_DELIVERIES, with_clock, with_own_storage, with_wrong_key},
    attacks::refuse_wrong_times,
    scenario::{Attack, Delivery, Scenario, Seen},
    step::Step,
};
use crate::{
    app::{App, LIMIT, Machine, QUEUE, TIMER, text},
    promises::Promised,
};
use std::collections::BTreeSet;

pub(super) const ORDER: &str = r#"{"id":"order-123","amount":42}"#;
const RECEIPT: &str = r#"{"id":"order-123","status":"accepted","amount":42}"#;
/// An order that was there before, so that table and queue are.
const EARLIER: &str = r#"{"id":"order-122","amount":41}"#;
const EARLIER_RECEIPT: &str = r#"{"id":"order-122","status":"accepted","amount":41}"#;
/// The same, but no delivery can make an order of it.
const NO_ORDER: &str = r#"{"amount":42}"#;

/// An app under attack, and how the deliveries of the order have ended so far.
pub(super) struct Struck {
    pub(super) app: App,
    pub(super) deliveries: Vec<Delivery>,
    /// How many invocations of the host in [`Self::app`] are counted, or concern something else.
    pub(super) counted: usize,
    /// How many copies of the event there were before the timer came by, where the attack is on the timer.
    pub(super) by_deliveries: Option<usize>,
    /// Of a storage of its own, as long as it is needed.
    pub(super) storage: Option<Storage>,
    /// What the host runs on, where it is going to die.
    pub(super) machine: Machine,
}

impl Scenario {
    /// Plays it, and answers with what was seen.
    pub(super) async fn play(&self) -> Result<Seen, String> {
        let mut struck = Struck::prepare(&self.attack).await;
        struck.strike(&self.attack).await;
        struck.settle().await;
        let seen = struck.look().await;
        let promised = Promised {
            receipts: struck.receipts(&self.attack),
            quarantined: if seen.quarantined > 0 { BTreeSet::from([NO_ORDER.to_owned()]) } else { BTreeSet::new() },
        };
        let copies = promised.check(&struck.app.account, Vec::new()).await?;
        let published: usize = seen.published.iter().sum();
        if copies.get("order-123").copied().unwrap_or_default() != published {
            return Err(format!("{copies:?} events instead of {published}"));
        }
        Ok(seen)
    }
}

impl Struck {
    async fn prepare(attack: &Attack) -> Self {
        let mortal = matches!(
            attack,
            Attack::KillHost(..) | Attack::KillHostRejecting(..) | Attack::StorageRestartedDuringCommit
        );
        let (machine, mut storage) = (if mortal { Machine::mortal() } else { Machine::default() }, None);
        let app = match attack {
            Attack::KillHost(..) | Attack::KillHostRejecting(..) => App::start_on(&machine, &ONE_AT_A_TIME).await,
            Attack::VisibilityLost => App::start_with(&ONE_AT_A_TIME).await,
            Attack::TablesDown => App::start_with(&TWO_DELIVERIES).await,
            Attack::WrongKey => with_wrong_key().await,
            Attack::Clock { hours, .. } => with_clock(*hours).await,
            Attack::StorageRestartedBetweenOrders | Attack::StorageRestartedDuringCommit => {
                with_own_storage(&mut storage, &machine).await
            }
            _ => App::start().await,
        };
        let mut struck = Self { app, deliveries: Vec::new(), counted: 0, by_deliveries: None, storage, machine };
        struck.precede(attack).await;
        struck
    }

    /// What was there before.
    async fn precede(&mut self, attack: &Attack) {
        if has_earlier(attack) {
            self.app.send(EARLIER).await;
            self.app.drain().await;
            self.counted = 1;
        }
        if matches!(attack, Attack::KillHostRejecting(..)) {
            self.app.account.create_queue("orders-quarantine").await.unwrap();
        }
        if matches!(attack, Attack::KillHandler(Step::Look, _) | Attack::Wire(Step::Look, ..)) {
            self.app.send(ORDER).await;
            self.app.drain().await;
        }
        self.app.forget_requests();
    }

    fn receipts(&self, attack: &Attack) -> BTreeSet<String> {
        let order = (message(attack) == ORDER).then_some(RECEIPT);
        let earlier = has_earlier(attack).then_some(EARLIER_RECEIPT);
        order.into_iter().chain(earlier).map(str::to_owned).collect()
    }

    async fn strike(&mut self, attack: &Attack) {
        match attack {
            Attack::KillHandler(step, moment) => self.kill_handler(*step, *moment).await,
            Attack::KillHandlerInTick(step, moment) => self.kill_handler_in_tick(*step, *moment).await,
            Attack::KillHost(step, moment) | Attack::KillHostRejecting(step, moment) => {
                self.kill_host((*step, *moment), message(attack)).await;
            }
            Attack::Wire(step, count, fault) => {
                step.strike(&self.app, *count, fault.clone());
                self.put_and_wait(1).await;
                assert!(step.arrived(&self.app) > 0, "there was nothing to strike");
            }
            Attack::LateCommit(late) => self.commit_late(*late).await,
            Attack::TwoProcessesAtOnce => self.deliver_to_two_processes().await,
            Attack::VisibilityLost => self.lose_visibility().await,
            Attack::TablesDown => {
                self.app.tables.close();
                self.fail_until_poisoned().await;
            }
            Attack::WrongKey => self.fail_until_poisoned().await,
            Attack::Clock { refused: true, .. } => {
                self.app.tables.set_rule(refuse_wrong_times);
                self.fail_until_poisoned().await;
            }
            Attack::Clock { .. } => self.put_and_hand_over().await,
            Attack::TableDeleted => self.delete_table().await,
            Attack::StorageRestartedBetweenOrders => self.restart_storage_between_orders().await,
            Attack::StorageRestartedDuringCommit => self.restart_storage_during_commit().await,
        }
    }

    /// Puts the order on the queue and lets the host look.
    pub(super) async fn put(&self, message: &str) {
        self.app.account.put("orders", message).await.unwrap();
        self.app.host.poll_now();
    }

    /// Puts the order on the queue, and waits until `count` more deliveries have ended.
    pub(super) async fn put_and_wait(&self, count: usize) {
        let before = self.app.host.invocations().len();
        self.put(ORDER).await;
        self.app.host.wait_for(|all| all.len() >= before + count, LIMIT).await.unwrap();
    }

    /// Counts the deliveries of the host that have ended since it was last counted.
    pub(super) fn count(&mut self) {
        let invocations = self.app.host.invocations();
        let new = invocations[self.counted..].iter().filter(|invocation| invocation.function == QUEUE);
        self.deliveries.extend(new.map(Delivery::of));
        self.counted = invocations.len();
    }

    /// Waits until every message is dealt with.
    async fn settle(&mut self) {
        self.lift();
        self.app.drain().await;
        self.count();
    }

    /// What is stored and queued, before and after the timer comes by.
    async fn look(&self) -> Seen {
        let by_deliveries = match self.by_deliveries {
            Some(copies) => copies,
            None => self.copies().await,
        };
        self.app.age().await;
        assert!(self.app.host.fire_timer(TIMER).await.unwrap().succeeded);
        let rows = self.app.rows().await;
        let records =
            rows.iter().filter(|row| text(row, "RowKey").starts_with("record~") && text(row, "receipt") == RECEIPT);
        Seen {
            deliveries: self.deliveries.clone(),
            records: records.count(),
            published: [by_deliveries, self.copies().await - by_deliveries],
            quarantined: self.app.quarantined().await.len(),
        }
    }

    pub(super) async fn copies(&self) -> usize {
        self.app.events().await.iter().filter(|event| event["subject"] == "order-123").count()
    }
}

fn message(attack: &Attack) -> &'static str {
    if matches!(attack, Attack::KillHostRejecting(..)) { NO_ORDER } else { ORDER }
}

/// Whether table and queue are there before.
fn has_earlier(attack: &Attack) -> bool {
    !matches!(
        attack,
        Attack::KillHandler(Step::CreateTable | Step::CreateQueue, _)
            | Attack::Wire(Step::CreateTable | Step::CreateQueue, ..)
            | Attack::TableDeleted
            | Attack::WrongKey
            | Attack::Clock { .. }
    )
}
