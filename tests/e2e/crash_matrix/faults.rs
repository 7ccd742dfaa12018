//! The failures that take more than one rule of a proxy.

use super::{
    run::{NO_ORDER, ORDER, Run},
    scenario::{ALWAYS, Delivery, Late, Moment},
    scenarios::asking,
    setup::error_of_clock,
    step::{Step, short_visibility},
};
use crate::app::{LIMIT, QUEUE, TABLE, TIMER, date, options, wait_until};
use local_host::LocalHost;
use test_storage::{Fault, Gate, Request};
use time::OffsetDateTime;

impl Run {
    /// Waits until a request for a message has got so far, and stays there.
    async fn reach(&self, (step, moment): (Step, Moment), gate: &Gate, message: &str) {
        step.inject(&self.app, 1, held(moment, gate));
        self.put(message).await;
        self.wait_at(step, moment).await;
    }

    pub(super) async fn wait_at(&self, step: Step, moment: Moment) {
        match moment {
            Moment::Before | Moment::Pause => wait_until(|| step.arrived(&self.app) > 0).await,
            Moment::After => wait_until(|| step.carried_out(&self.app) > 0).await,
        }
    }

    /// Waits until the host has dealt with the answer when a request behind it is held, and the other way round.
    async fn wait_for_the_rest(&self, step: Step) {
        match step {
            Step::CreateQueue | Step::Put | Step::DeleteOutboxRow => {
                wait_until(|| Step::DeleteMessage.carried_out(&self.app) > 0).await;
            }
            Step::DeleteMessage => self.app.published().await,
            _ => {}
        }
    }

    pub(super) async fn kill_handler(&self, (step, moment): (Step, Moment), message: &str) {
        let gate = Gate::default();
        let handler = self.app.host.local().worker_pid();
        self.reach((step, moment), &gate, message).await;
        self.wait_for_the_rest(step).await;
        self.app.host.local().kill_worker().unwrap();
        self.app.host.local().ready_again(handler).await.unwrap();
        if step == Step::DeleteMessage {
            gate.open();
        }
    }

    pub(super) async fn kill_handler_holding(&self) {
        let handler = self.app.host.local().worker_pid();
        Step::UseTable.inject(&self.app, ALWAYS, Fault::Status(503, Vec::new(), String::new()));
        self.put(ORDER).await;
        self.app.host.wait_for_line("WARN Storage away: table since 20", LIMIT).await.unwrap();
        self.app.host.local().kill_worker().unwrap();
        self.lift();
        self.app.host.local().ready_again(handler).await.unwrap();
    }

    pub(super) async fn kill_handler_giving_back(&self, moment: Moment) {
        Step::Commit.inject(&self.app, 1, asking(503, 600));
        self.kill_handler((Step::PutBack, moment), ORDER).await;
    }

    /// Lets the put fail by which a message is given back, until the delivery has failed.
    pub(super) async fn fail_to_give_back(&self, fault: &Fault) {
        Step::Commit.inject(&self.app, 1, asking(503, 600));
        Step::PutBack.inject(&self.app, 1, fault.clone());
        self.put(ORDER).await;
        self.app.host.wait_for(|all| all.iter().any(|invocation| !invocation.succeeded), LIMIT).await.unwrap();
    }

    pub(super) async fn fail_to_park(&self, step: Step, fault: &Fault) {
        self.app.account.put("orders-poison", NO_ORDER).await.unwrap();
        step.inject(&self.app, 1, fault.clone());
        assert!(self.app.host.fire_timer(TIMER).await.unwrap().succeeded);
        assert!(step.arrived(&self.app) > 0, "the request was never made");
    }

    /// Lets a delivery leave its event to the timer.
    pub(super) async fn leave_event_behind(&mut self) {
        Step::Put.inject(&self.app, ALWAYS, Fault::Status(400, Vec::new(), String::new()));
        self.put_and_wait(ORDER).await;
        self.app.drain().await;
        self.by_deliveries = Some(self.copies().await);
        self.app.age().await;
        self.lift();
        self.app.forget_requests();
    }

    pub(super) async fn kill_handler_in_tick(&self, step: Step, moment: Moment) {
        step.inject(&self.app, 1, held(moment, &Gate::default()));
        let kill = async {
            self.wait_at(step, moment).await;
            self.app.host.local().kill_worker().unwrap();
        };
        let (tick, ()) = tokio::join!(self.app.host.fire_timer(TIMER), kill);
        let tick = tick.unwrap();
        assert!(tick.succeeded && tick.attempt == 1, "the host repeats the tick: {tick:?}");
    }

    /// Sets the rule, and waits until no receive is under way that it did not concern.
    async fn shorten_visibility(&self) {
        self.app.queues.set_rule(short_visibility);
        let is_short = |request: &Request| request.target.contains("visibilitytimeout=1");
        wait_until(|| self.app.queues.carried_out().iter().any(is_short)).await;
    }

    pub(super) async fn kill_host(&mut self, (step, moment): (Step, Moment), message: &str) {
        self.shorten_visibility().await;
        let fault = held(moment, &Gate::default());
        step.proxy(&self.app).set_rule(step.rule(1, fault, short_visibility));
        self.put(message).await;
        self.wait_at(step, moment).await;
        self.wait_for_the_rest(step).await;
        self.machine.kill().await;
        self.count();
        if self.deliveries.is_empty() {
            self.deliveries.push(Delivery::Killed);
        }
        self.replace_host().await;
    }

    /// Starts another host that takes over from one that is dead.
    async fn replace_host(&mut self) {
        self.lift();
        self.app.host = self.app.second_instance().await;
        self.counted = 0;
    }

    /// Lets another host take over from one that ends in order: no receive of it is left that could take a message.
    async fn hand_over(&mut self) {
        let other = self.app.second_instance().await;
        std::mem::replace(&mut self.app.host, other).stop().await;
        self.lift();
        self.counted = 0;
    }

    pub(super) fn lift(&self) {
        self.app.tables.lift();
        self.app.queues.lift();
    }

    pub(super) async fn commit_late(&self, late: Late) {
        let (commit, others) = (Gate::default(), Gate::default());
        let (first, rest, failing) = (commit.clone(), others.clone(), late == Late::AfterTheDeliveryEnded);
        let (mut commits, mut reads) = (0, 0);
        self.app.tables.set_rule(move |request| match () {
            () if Step::Commit.is(request) => {
                commits += 1;
                if commits == 1 { Fault::Held(first.clone()) } else { Fault::Held(rest.clone()) }
            }
            () if Step::ReadRecord.is(request) => {
                reads += 1;
                match (failing, reads) {
                    (true, 1) => Fault::Status(403, Vec::new(), String::new()),
                    _ => Fault::Held(rest.clone()),
                }
            }
            () => Fault::Pass,
        });
        let carried_out = |count| move || Step::Commit.carried_out(&self.app) == count;
        self.put(ORDER).await;
        match late {
            Late::BeforeTheRead => wait_until(|| Step::ReadRecord.arrived(&self.app) == 1).await,
            Late::AfterTheSecondTry => {
                wait_until(|| Step::ReadRecord.arrived(&self.app) == 1).await;
                others.open();
                wait_until(carried_out(1)).await;
            }
            Late::AfterTheDeliveryEnded => {
                let before = self.counted;
                self.app.host.wait_for(|all| all.len() > before, LIMIT).await.unwrap();
            }
        }
        let before = Step::Commit.carried_out(&self.app);
        commit.open();
        wait_until(carried_out(before + 1)).await;
        others.open();
    }

    pub(super) async fn deliver_to_two_processes(&mut self) {
        let other = self.app.second_instance().await;
        let gate = Gate::default();
        Step::Commit.inject(&self.app, 2, Fault::Held(gate.clone()));
        let together = async {
            wait_until(|| Step::Commit.arrived(&self.app) >= 2).await;
            gate.open();
        };
        let (first, second, ()) =
            tokio::join!(self.app.host.deliver(QUEUE, ORDER), other.deliver(QUEUE, ORDER), together);
        let mut deliveries = [Delivery::of(&first.unwrap()), Delivery::of(&second.unwrap())];
        deliveries.sort_by_key(|delivery| *delivery != Delivery::Committed);
        self.deliveries.extend(deliveries);
        self.counted = self.app.host.invocations().len();
    }

    /// Lets the order come as far as its commit. Whatever its handler asks of the table waits at the gate, so that it
    /// does not matter how long the test takes.
    async fn hold_at_the_commit(&self, gate: &Gate) {
        let gate = gate.clone();
        self.app.tables.set_rule(move |_| Fault::Held(gate.clone()));
        self.put(ORDER).await;
        self.wait_at(Step::Commit, Moment::Before).await;
    }

    pub(super) async fn lose_visibility(&mut self) {
        let gate = Gate::default();
        self.shorten_visibility().await;
        self.hold_at_the_commit(&gate).await;
        self.app.queues.lift();
        // Not through the proxy.
        let other = LocalHost::start(options(&self.app.account, &[])).await.unwrap();
        let deliveries = other.wait_for(|all| !all.is_empty(), LIMIT).await.unwrap();
        self.deliveries.extend(deliveries.iter().map(Delivery::of));
        self.app.published().await;
        gate.open();
        let before = self.counted;
        self.app.host.wait_for(|all| all.len() > before, LIMIT).await.unwrap();
    }

    /// Lets an instance in which something is wrong have the order first.
    pub(super) async fn fail_and_hand_over(&mut self) {
        self.put_and_wait(ORDER).await;
        self.deliveries.push(Delivery::of(&self.app.host.invocations()[self.counted]));
        self.hand_over().await;
    }

    /// Sends the order to this instance, and once more to another with the right time.
    pub(super) async fn put_and_hand_over(&mut self) {
        self.put_and_wait(ORDER).await;
        assert!(error_of_clock(&self.app.tables.requests()[0]) > time::Duration::hours(4), "the clock is right");
        assert!(self.app.host.fire_timer(TIMER).await.unwrap().succeeded);
        self.app.drain().await;
        self.deliveries.push(Delivery::of(&self.app.host.invocations()[self.counted]));
        self.hand_over().await;
        self.put(ORDER).await;
    }

    pub(super) async fn delete_table(&self) {
        let gate = Gate::default();
        self.app.account.create_table(TABLE).await.unwrap();
        self.hold_at_the_commit(&gate).await;
        self.app.account.delete_table(TABLE).await.unwrap();
        gate.open();
    }

    pub(super) async fn restart_storage_between_orders(&self) {
        self.restart_storage().await;
        self.put_and_wait(ORDER).await;
    }

    pub(super) async fn restart_storage_during_commit(&mut self) {
        self.shorten_visibility().await;
        self.reach((Step::Commit, Moment::After), &Gate::default(), ORDER).await;
        self.machine.kill().await;
        self.restart_storage().await;
        // All that may have taken longer than the grace period.
        date(&self.app.account, self.app.rows().await, OffsetDateTime::now_utc()).await;
        self.deliveries.push(Delivery::Killed);
        self.replace_host().await;
    }

    pub(super) async fn restart_storage(&self) {
        let (storage, _) = self.storage.as_ref().unwrap();
        storage.stop().await.unwrap();
        storage.restart().await.unwrap();
    }
}

fn held(moment: Moment, gate: &Gate) -> Fault {
    match moment {
        Moment::Before => Fault::Held(gate.clone()),
        Moment::After => Fault::HangReply,
        Moment::Pause => Fault::Status(503, vec![("retry-after", "4".to_owned())], String::new()),
    }
}
