//! The one way in to the agent: a bounded channel of everything that can make it think.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use vpc_agent::{Input, Outcome, Ticket};

/// Events that may wait at the door. A node runs at most some hundred pods; callers beyond this wait in their sockets.
const ROOM: usize = 1024;

/// Something has happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody asks and waits for the answer.
    Asked {
        /// Who.
        ticket: Ticket,
        /// What.
        input: Input,
        /// Where the answer goes.
        answer: oneshot::Sender<Outcome>,
    },
    /// An edge reports.
    Told(Input),
}

/// Makes the door: what callers and edges hold, and what the agent's task listens at.
#[must_use]
pub fn door() -> (Door, mpsc::Receiver<Event>) {
    let (events, inbox) = mpsc::channel(ROOM);
    (Door { events, tickets: Arc::default() }, inbox)
}

/// The outside of the door.
#[derive(Clone, Debug)]
pub struct Door {
    events: mpsc::Sender<Event>,
    tickets: Arc<AtomicU64>,
}

/// The agent's task has ended: nobody answers any more.
#[derive(Debug, thiserror::Error)]
#[error("the daemon is ending")]
pub struct Closed;

impl Door {
    /// Asks the agent and waits for its answer. `make` gets the ticket to put into the input. A caller that goes away before the
    /// answer is reported when `until_gone` says what to report.
    ///
    /// # Errors
    /// The agent's task has ended.
    pub async fn ask(
        &self,
        make: impl FnOnce(Ticket) -> Input,
        until_gone: Option<fn(Ticket) -> Input>,
    ) -> Result<Outcome, Closed> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let (answer, heard) = oneshot::channel();
        let mut leaving = Leaving { door: self.clone(), report: until_gone.map(|report| report(ticket)) };
        self.events.send(Event::Asked { ticket, input: make(ticket), answer }).await.map_err(|_| Closed)?;
        let outcome = heard.await.map_err(|_| Closed)?;
        leaving.report = None;
        Ok(outcome)
    }

    /// Reports from an asynchronous edge.
    pub async fn tell(&self, input: Input) {
        // Nobody listens only when the daemon ends; then nobody needs to know.
        let _ = self.events.send(Event::Told(input)).await;
    }

    /// Reports from a thread of its own; waits while there is no room.
    pub fn tell_from_thread(&self, input: Input) {
        let _ = self.events.blocking_send(Event::Told(input));
    }
}

/// Reports a caller that went away, unless its answer came first.
struct Leaving {
    door: Door,
    report: Option<Input>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(input) = self.report.take() else { return };
        if let Err(TrySendError::Full(event)) = self.door.events.try_send(Event::Told(input)) {
            // At most one for each request, and those are bounded by the door itself.
            let events = self.door.events.clone();
            tokio::spawn(async move { events.send(event).await });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_agent::Refusal;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    fn abandoned(ticket: Ticket) -> Input {
        Input::AddAbandoned { ticket }
    }

    #[test]
    fn a_caller_that_goes_away_is_reported_and_one_that_was_answered_is_not() {
        run(async {
            let (door, mut inbox) = door();
            let asking = tokio::spawn({
                let door = door.clone();
                async move { door.ask(|_| Input::Tick, Some(abandoned)).await }
            });
            let Some(Event::Asked { ticket, answer, .. }) = inbox.recv().await else { panic!() };
            answer.send(Outcome::Refused(Refusal::ShuttingDown)).unwrap();
            asking.await.unwrap().unwrap();
            assert!(inbox.try_recv().is_err(), "{ticket:?} was answered");

            let asking = tokio::spawn(async move { door.ask(|_| Input::Tick, Some(abandoned)).await });
            let Some(Event::Asked { ticket, answer, .. }) = inbox.recv().await else { panic!() };
            asking.abort();
            let Some(Event::Told(Input::AddAbandoned { ticket: gone })) = inbox.recv().await else { panic!() };
            assert_eq!(gone, ticket);
            assert!(answer.is_closed());
        });
    }

    #[test]
    fn when_the_agent_s_task_has_ended_callers_are_told() {
        run(async {
            let (door, inbox) = door();
            drop(inbox);
            assert!(door.ask(|_| Input::Tick, None).await.is_err());
        });
    }
}
