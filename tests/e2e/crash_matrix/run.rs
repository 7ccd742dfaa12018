//! Runs one scenario: prepares the app, injects the failure, waits until all is settled, and observes the outcome.

use super::{
    scenario::{ALWAYS, Delivery, Failure, Moment, Scenario, Seen},
    setup::{ONE_AT_A_TIME, SHORT_HOLD, Storage, refuse_wrong_times, with_clock, with_own_storage, with_wrong_key},
    step::Step,
};
use crate::{
    app::{App, LIMIT, Machine, QUEUE, TIMER, text},
    promises::Promised,
};
use std::collections::BTreeSet;
use test_storage::Fault;

pub(super) const ORDER: &str = r#"{"id":"order-123","amount":42}"#;
const RECEIPT: &str = r#"{"id":"order-123","status":"accepted","amount":42}"#;
/// An order that was there before, so that table and queue are.
const EARLIER: &str = r#"{"id":"order-122","amount":41}"#;
const EARLIER_RECEIPT: &str = r#"{"id":"order-122","status":"accepted","amount":41}"#;
/// The same, but no delivery can make an order of it.
pub(super) const NO_ORDER: &str = r#"{"amount":42}"#;

/// An app with an injected failure, and the outcomes of the deliveries so far.
pub(super) struct Run {
    pub(super) app: App,
    pub(super) deliveries: Vec<Delivery>,
    /// The number of invocations of the host in [`Self::app`] that are counted, or concern something else.
    pub(super) counted: usize,
    /// Copies of the event before the timer ran, if the failure is injected into the timer.
    pub(super) by_deliveries: Option<usize>,
    /// A storage of its own, as long as it is needed.
    pub(super) storage: Option<Storage>,
    /// The runtime of the host, if the host is killed.
    pub(super) machine: Machine,
}

impl Scenario {
    /// Runs it and returns the outcome.
    pub(super) async fn run(&self) -> Result<Seen, String> {
        let mut run = Run::prepare(&self.failure).await;
        run.inject(&self.failure).await;
        if matches!(self.failure, Failure::Wire(Step::CreateQueue | Step::Put | Step::DeleteOutboxRow, ..)) {
            run.app.published().await;
        }
        run.settle(&self.failure).await;
        // What a process left behind when it was killed, the timer publishes.
        if self.seen.published[1] == 0 {
            run.app.published().await;
        }
        let mut seen = run.observe().await;
        let promised = Promised {
            receipts: run.receipts(&self.failure),
            quarantined: if seen.quarantined > 0 { BTreeSet::from([NO_ORDER.to_owned()]) } else { BTreeSet::new() },
        };
        let copies = promised.check(&run.app.account, Vec::new()).await?;
        let published: usize = seen.published.iter().sum();
        if copies.get("order-123").copied().unwrap_or_default() != published {
            return Err(format!("{copies:?} events instead of {published}"));
        }
        if gives_back(&self.failure) {
            // Of two copies that are delivered at about the same time, the second may publish what is under way.
            seen.published[0] = seen.published[0].min(1);
        }
        Ok(seen)
    }
}

impl Run {
    async fn prepare(failure: &Failure) -> Self {
        let mortal = matches!(
            failure,
            Failure::KillHost(..) | Failure::KillHostRejecting(..) | Failure::StorageRestartedDuringCommit
        );
        let (machine, mut storage) = (if mortal { Machine::mortal() } else { Machine::default() }, None);
        let app = match failure {
            Failure::KillHost(..) | Failure::KillHostRejecting(..) => App::start_on(&machine, &ONE_AT_A_TIME).await,
            Failure::VisibilityLost => App::start_with(&ONE_AT_A_TIME).await,
            Failure::TablesDown
            | Failure::Wire(Step::UseTable, ..)
            | Failure::WireRejecting(_, ALWAYS, _)
            | Failure::WireGivingBack(_) => App::start_with(&SHORT_HOLD).await,
            Failure::WrongKey => with_wrong_key().await,
            Failure::Clock { hours, .. } => with_clock(*hours).await,
            Failure::StorageRestartedBetweenOrders | Failure::StorageRestartedDuringCommit => {
                with_own_storage(&mut storage, &machine).await
            }
            _ => App::start().await,
        };
        let mut run = Self { app, deliveries: Vec::new(), counted: 0, by_deliveries: None, storage, machine };
        run.precede(failure).await;
        run
    }

    /// Sends the orders that have to be there before.
    async fn precede(&mut self, failure: &Failure) {
        if has_earlier(failure) {
            self.app.send(EARLIER).await;
            self.app.drain().await;
            self.counted = 1;
        }
        if message(failure) == NO_ORDER {
            self.app.account.create_queue("orders-quarantine").await.unwrap();
        }
        if matches!(failure, Failure::KillHandler(Step::ReadRecord, _) | Failure::Wire(Step::ReadRecord, ..)) {
            self.app.send(ORDER).await;
            self.app.drain().await;
        }
        self.app.forget_requests();
    }

    fn receipts(&self, failure: &Failure) -> BTreeSet<String> {
        let order = (message(failure) == ORDER).then_some(RECEIPT);
        let earlier = has_earlier(failure).then_some(EARLIER_RECEIPT);
        order.into_iter().chain(earlier).map(str::to_owned).collect()
    }

    async fn inject(&mut self, failure: &Failure) {
        match failure {
            Failure::KillHandler(step, moment) | Failure::KillHandlerRejecting(step, moment) => {
                self.kill_handler((*step, *moment), message(failure)).await;
            }
            Failure::KillHandlerHolding => self.kill_handler_holding().await,
            Failure::KillHandlerGivingBack(moment) => self.kill_handler_giving_back(*moment).await,
            Failure::KillHandlerParking(step, moment) => {
                self.app.account.put("orders-poison", NO_ORDER).await.unwrap();
                self.kill_handler_in_tick(*step, *moment).await;
            }
            Failure::KillHandlerInTick(step, moment) => {
                self.leave_event_behind().await;
                self.kill_handler_in_tick(*step, *moment).await;
            }
            Failure::KillHost(step, moment) | Failure::KillHostRejecting(step, moment) => {
                self.kill_host((*step, *moment), message(failure)).await;
            }
            Failure::WireGivingBack(fault) => self.fail_to_give_back(fault).await,
            Failure::WireParking(step, fault) => self.fail_to_park(*step, fault).await,
            Failure::Wire(step, count, fault) | Failure::WireRejecting(step, count, fault) => {
                step.inject(&self.app, *count, fault.clone());
                self.put_and_wait(message(failure)).await;
                self.wait_at(*step, Moment::Before).await;
            }
            Failure::LateCommit(late) => self.commit_late(*late).await,
            Failure::TwoProcessesAtOnce => self.deliver_to_two_processes().await,
            Failure::VisibilityLost => self.lose_visibility().await,
            Failure::TablesDown => {
                self.app.tables.close();
                self.put_and_wait(ORDER).await;
                self.app.tables.open().await.unwrap();
            }
            Failure::WrongKey => {
                // The proxy that shows what is put back signs it anew.
                Step::PutBack.inject(&self.app, ALWAYS, Fault::Status(403, Vec::new(), String::new()));
                self.fail_and_hand_over().await;
            }
            Failure::Clock { refused: true, .. } => {
                self.app.tables.set_rule(refuse_wrong_times);
                self.fail_and_hand_over().await;
            }
            Failure::Clock { .. } => self.put_and_hand_over().await,
            Failure::TableDeleted => self.delete_table().await,
            Failure::StorageRestartedBetweenOrders => self.restart_storage_between_orders().await,
            Failure::StorageRestartedDuringCommit => self.restart_storage_during_commit().await,
        }
    }

    /// Puts a message on the queue and lets the host look.
    pub(super) async fn put(&self, message: &str) {
        self.app.account.put("orders", message).await.unwrap();
        self.app.host.poll_now();
    }

    /// Puts a message on the queue, and waits until one more delivery has ended.
    pub(super) async fn put_and_wait(&self, message: &str) {
        let before = self.app.host.invocations().len();
        self.put(message).await;
        self.app.host.wait_for(|all| all.len() > before, LIMIT).await.unwrap();
    }

    /// Counts the deliveries of the host that have ended since it was last counted.
    pub(super) fn count(&mut self) {
        let invocations = self.app.host.invocations();
        let new = invocations[self.counted..].iter().filter(|invocation| invocation.function == QUEUE);
        self.deliveries.extend(new.map(Delivery::of));
        self.counted = invocations.len();
    }

    /// Waits until every message is dealt with.
    async fn settle(&mut self, failure: &Failure) {
        self.lift();
        self.app.host.drain(&self.app.account, "orders", LIMIT).await.unwrap();
        self.count();
        // How often it goes round depends on when the table is asked again.
        self.deliveries.dedup_by(|next, last| *last == Delivery::GivenBack && next == last);
        if gives_back(failure) {
            // The partition may not be asked again yet, and two copies are delivered at about the same time.
            self.deliveries.retain(|delivery| *delivery != Delivery::GivenBack);
            self.deliveries.sort_by_key(|delivery| match delivery {
                Delivery::Committed => 1,
                Delivery::Duplicate => 2,
                _ => 0,
            });
        }
    }

    /// Observes storage and queues, before and after the timer runs.
    async fn observe(&self) -> Seen {
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

fn gives_back(failure: &Failure) -> bool {
    matches!(failure, Failure::WireGivingBack(_) | Failure::KillHandlerGivingBack(_))
}

fn message(failure: &Failure) -> &'static str {
    match failure {
        Failure::KillHostRejecting(..)
        | Failure::KillHandlerRejecting(..)
        | Failure::KillHandlerParking(..)
        | Failure::WireRejecting(..)
        | Failure::WireParking(..) => NO_ORDER,
        _ => ORDER,
    }
}

/// Says whether table and queue are there before.
fn has_earlier(failure: &Failure) -> bool {
    !matches!(
        failure,
        Failure::KillHandler(Step::CreateTable | Step::CreateQueue, _)
            | Failure::Wire(Step::CreateTable | Step::CreateQueue, ..)
            | Failure::TableDeleted
            | Failure::WrongKey
            | Failure::Clock { .. }
    )
}
