//! EC2 requests on their way: sent, answered, given up, sent again as the daemon's client does.

use std::time::Duration;

use lab_cloud::{ApiError, CallId};
use vpc_agent::{CloudCall, Input, OpId};
use vpc_aws::ec2::shapes::{AnyResponse, ErrorAnswer};
use vpc_aws::ec2::{Ec2Error, ErrorClass, Outcome, again_after};
use vpc_aws::hand::{Answer, Request, Step, Work};
use vpc_model::{Millis, Time};

use crate::history::Kill;
use crate::world::{Event, NodeAt, World, keep_newest};

/// Limit of one attempt, as the client has it (`HTTP_TIMEOUT`).
const ATTEMPT: Millis = Millis::seconds(10);
/// Limit of a request with all its attempts.
const DEADLINE: Millis = Millis::seconds(45);
/// Attempts (`AWS_MAX_ATTEMPTS`).
const MOST_ATTEMPTS: u32 = 3;

/// A request that was sent to EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// By whose daemon.
    pub node: NodeAt,
    /// Its action.
    pub action: &'static str,
    /// Whether it changes something.
    pub changing: bool,
}

/// When a trap closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Instead of sending the request.
    Before,
    /// When it has been sent: it is carried out, and nobody hears the answer.
    Sent,
    /// When the answer is there and the agent has not seen it.
    Answered,
}

/// Ends a daemon at one of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    pub(crate) node: NodeAt,
    /// Requests to let pass first.
    pub(crate) left: usize,
    pub(crate) moment: Moment,
}

/// One call of the agent on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) node: NodeAt,
    pub(crate) life: u32,
    op: OpId,
    work: Work,
    request: Request,
    /// Attempts made.
    attempt: u32,
    /// One of them was lost.
    lost: bool,
    /// When the first attempt was made.
    since: Time,
}

impl World {
    /// Requests of a node since a moment, of those that change something if `changing`.
    #[must_use]
    pub fn requests(&self, node: NodeAt, since: Time, changing: bool) -> Vec<&'static str> {
        let own = self.sent.iter().filter(|sent| sent.node == node && sent.at >= since);
        own.filter(|sent| sent.changing || !changing).map(|sent| sent.action).collect()
    }

    pub(crate) fn begin_call(&mut self, node: NodeAt, life: u32, op: OpId, call: CloudCall) {
        let wall = self.wall();
        self.note_call(node, op, &call);
        let Some(hand) = self.nodes.get_mut(node.0).and_then(|own| own.hand.as_mut()) else { return };
        let step = hand.begin(wall, call);
        self.follow(node, life, op, step);
    }

    fn follow(&mut self, node: NodeAt, life: u32, op: OpId, step: Step) {
        match step {
            Step::Ask(work, request) => {
                self.send(Flight { node, life, op, work, request, attempt: 0, lost: false, since: self.now });
            }
            // Told as an event of its own: an agent is never called in the middle of its wishes.
            Step::Done(result) => {
                let input = Box::new(Input::CloudDone { op, result });
                self.later(Millis(0), Event::Tell { node, life, input });
            }
        }
    }

    pub(crate) fn send(&mut self, mut flight: Flight) {
        if self.springs(flight.node, Moment::Before) {
            return;
        }
        flight.attempt += 1;
        let action = flight.request.name();
        let changing = !action.starts_with("Describe");
        if let Some(own) = self.nodes.get_mut(flight.node.0) {
            own.audit.spent.calls += 1;
        }
        self.sent.push(Sent { at: self.now, node: flight.node, action, changing });
        keep_newest(&mut self.sent, self.keep);
        let call = self.cloud.submit(self.now, &self.caller(flight.node), flight.request.clone().into());
        let node = flight.node;
        self.flights.insert(call, flight);
        self.later(ATTEMPT, Event::GiveUp(call));
        self.springs(node, Moment::Sent);
    }

    /// EC2 has answered, or the connection has ended without an answer.
    pub(crate) fn answered(&mut self, call: CallId, result: Option<Result<Box<AnyResponse>, ApiError>>) {
        if let Some(answer) = self.account.get_mut(&call) {
            match result {
                Some(result) => *answer = Some(result.map(|response| *response)),
                None => _ = self.account.remove(&call),
            }
            return;
        }
        let Some(node) = self.flights.get(&call).map(|flight| flight.node) else { return };
        if self.springs(node, Moment::Answered) || self.dies(node, Kill::Done) {
            return;
        }
        let Some(flight) = self.flights.remove(&call) else { return };
        let result = match result {
            Some(Ok(response)) => Answer::of(*response).ok_or_else(|| flight.request.lost()),
            Some(Err(error)) => Err(flight.request.refused(error.status, error_answer(error))),
            None => Err(flight.request.lost()),
        };
        self.land(flight, result);
    }

    /// An attempt has had its time. EC2 may still carry it out.
    pub(crate) fn give_up(&mut self, call: CallId) {
        if let Some(flight) = self.flights.remove(&call) {
            let error = flight.request.timed_out(Duration::from_millis(ATTEMPT.0));
            self.land(flight, Err(error));
        }
    }

    fn land(&mut self, mut flight: Flight, mut result: Result<Answer, Ec2Error>) {
        if let Err(error) = &mut result {
            error.lost_before = flight.lost;
            flight.lost |= error.outcome == Outcome::Unknown;
        }
        if let Some(own) = self.nodes.get_mut(flight.node.0).filter(|_| result.is_err()) {
            own.audit.spent.failures += 1;
        }
        if result.as_ref().is_err_and(|error| error.class == ErrorClass::Throttled) {
            let action = flight.request.name();
            let changing = !action.starts_with("Describe");
            self.throttled.push(Sent { at: self.now, node: flight.node, action, changing });
        }
        if let Err(error) = &result
            && let Some(pause) = self.again(&flight, error)
        {
            return self.later(pause, Event::Send(Box::new(flight)));
        }
        let Flight { node, life, op, work, .. } = flight;
        let Some(hand) = self.nodes.get_mut(node.0).and_then(|own| own.hand.as_mut()) else { return };
        let step = hand.answered(work, result);
        // Each request of a call that takes several is an effect of its own.
        self.effect_begins(node);
        if !self.dies(node, Kill::Before) {
            self.follow(node, life, op, step);
            self.dies(node, Kill::Begun);
        }
    }

    fn again(&mut self, flight: &Flight, error: &Ec2Error) -> Option<Millis> {
        if flight.attempt >= MOST_ATTEMPTS {
            return None;
        }
        let random = self.dice.fraction();
        let pause = again_after(&flight.request.query(), error, flight.attempt, random)?;
        let pause = Millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        (self.now + pause < flight.since + DEADLINE).then_some(pause)
    }

    /// Whether the trap closes here; the daemon is dead then.
    fn springs(&mut self, node: NodeAt, moment: Moment) -> bool {
        let Some(trap) = self.trap.as_mut().filter(|trap| trap.node == node && trap.moment == moment) else {
            return false;
        };
        if trap.left > 0 {
            trap.left -= 1;
            return false;
        }
        self.trap = None;
        self.kill(node);
        true
    }
}

fn error_answer(error: ApiError) -> ErrorAnswer {
    ErrorAnswer { code: error.code.into_owned(), message: error.message, request_id: String::new() }
}
