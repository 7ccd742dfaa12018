//! One step of a history: every invocation runs until it waits, then one action happens.

use super::{
    invocation::{Answer, GivenAnswer, Invocation, Outcome, Trigger},
    promises,
    queue::QueueMessage,
    schedule::Action,
    world::World,
};

impl World {
    /// Polls every invocation until it waits for the network or the clock, and records the outcomes.
    pub(crate) fn poll_all(&mut self) {
        loop {
            let ready: Vec<_> = (0..self.invocations.len()).filter(|one| self.invocations[*one].is_ready()).collect();
            if ready.is_empty() && !self.publish() {
                break;
            }
            if ready.is_empty() {
                continue;
            }
            let invocation = ready[self.schedule.first_of(ready.len())];
            self.network.state().sender = invocation;
            let now = self.now();
            self.invocations[invocation].poll(now);
            self.record_outcome(invocation);
        }
        self.network.state().detach_cancelled();
    }

    fn record_outcome(&mut self, invocation: usize) {
        let Invocation { trigger, outcome: Some(outcome), .. } = &self.invocations[invocation] else { return };
        self.note(|| format!("invocation {invocation}: {outcome:?}"));
        match (trigger, outcome) {
            (Trigger::Message { index, .. }, Outcome::Answered(Answer::GivenBack)) => {
                let copy = self.messages[*index].message;
                let is_back = self.messages.iter().skip(*index + 1).any(|queued| queued.message == copy);
                if !is_back {
                    self.violations.push(format!("said to be given back, but is not on the queue: {copy:?}"));
                }
            }
            (Trigger::Message { index, .. }, Outcome::Answered(answer)) => {
                let journal = self.network.state().journal.len();
                let (message, answer) = (self.messages[*index].message, answer.clone());
                self.answers.push(GivenAnswer { invocation, message, answer, journal });
            }
            (Trigger::Message { .. }, _) => self.failures += 1,
            (Trigger::Tick(_), Outcome::Ticked) => promises::check_tick(self, invocation),
            (Trigger::Tick(_), _) => {}
            (Trigger::Publisher, _) => self.invocations[invocation].outcome = None,
        }
    }

    pub(crate) async fn act(&mut self, action: Action) {
        self.disturb_or_go_on(action).await;
        let given_back = std::mem::take(&mut self.network.state().given_back);
        for (text, invisible) in given_back {
            let message = self.messages.iter().map(|queued| queued.message).find(|message| message.text() == text);
            let visible_at = self.now() + invisible;
            self.messages.push(QueueMessage { visible_at, ..QueueMessage::new(message.unwrap()) });
        }
    }

    async fn disturb_or_go_on(&mut self, action: Action) {
        match action {
            Action::Deliver(index) => self.network.state().deliver(index),
            Action::Fail(index, fault) => {
                self.budget.faults -= 1;
                self.network.state().fail(index, fault);
            }
            Action::ApplyLate(index) => self.network.state().apply_late(index),
            Action::DropLate(index) => self.network.state().drop_late(index),
            Action::Receive(index) => self.receive(index),
            Action::HandleOutcome(invocation) => self.handle_outcome(invocation),
            Action::Kill(invocation) => self.kill(invocation),
            Action::MakeVisible(index) => {
                self.budget.visibility_timeouts -= 1;
                self.messages[index].visible_at = self.now();
                self.note(|| format!("message {index} is visible again"));
            }
            Action::FireTimer => {
                self.budget.ticks -= 1;
                self.fire_timer();
            }
            Action::Pause => {
                self.budget.pauses -= 1;
                let pause = self.schedule.pause();
                self.advance_to(self.start + self.now() + pause).await;
            }
            Action::Wake => {
                self.budget.wakes -= 1;
                self.advance_to_next_event().await;
            }
            Action::JumpToExpiry(index) => {
                self.budget.jumps -= 1;
                self.jump_to_expiry(index).await;
                self.fire_timer();
            }
        }
    }
}
