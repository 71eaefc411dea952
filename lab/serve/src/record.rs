//! What was asked of the cloud: a bounded ring of calls, oldest forgotten first.

use std::collections::VecDeque;

use lab_cloud::{Caller, FaultId};
use vpc_model::InstanceId;

/// Calls remembered at most.
pub const CAPACITY: usize = 20_000;

/// Characters of an answer that are remembered.
const SHOWN: usize = 2048;

/// As much of an answer as is remembered.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Which service was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The EC2 Query API.
    Ec2,
    /// The instance metadata service.
    Imds,
    /// None: something that was done to the lab, so that one sees before and after which calls it was. Its action says what, its
    /// answer what came of it.
    Lab,
}

/// One call and its answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CallRecord {
    /// Its number, from 1; calls that are forgotten keep theirs.
    pub number: u64,
    /// When it came in: milliseconds since the cloud started.
    pub at_ms: u64,
    /// How long the answer took, in microseconds.
    pub took_us: u64,
    /// Which service.
    pub service: Service,
    /// Who called; `None`: nobody known (no valid signature, no instance with that address).
    pub caller: Option<Caller>,
    /// Name of the calling instance.
    pub caller_name: Option<String>,
    /// Action (`CreateNetworkInterface`), or method and path of an IMDS request.
    pub action: String,
    /// Parameters in the order given, without `Action`, `Version` and signature.
    pub parameters: Vec<(String, String)>,
    /// HTTP status of the answer; 0: none, the connection was closed instead.
    pub status: u16,
    /// EC2's error code; `None`: it went well.
    pub error: Option<String>,
    /// The error's text, or the answer (EC2: XML), at most 2048 characters.
    pub answer: String,
    /// EC2's id of the request; empty for IMDS.
    pub request_id: String,
    /// Faults that had a hand in it.
    #[serde(default)]
    pub faults: Vec<FaultId>,
}

/// Which calls one wants to see. Everything that is not set lets all calls pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallFilter {
    /// Of one service.
    pub service: Option<Service>,
    /// Of one instance.
    pub instance: Option<InstanceId>,
    /// With this action.
    pub action: Option<String>,
    /// With a number above this one: what came since the last look.
    pub after: u64,
    /// Only such as were refused, or not answered at all.
    pub errors_only: bool,
    /// Only such as this fault had a hand in.
    pub fault: Option<FaultId>,
}

impl CallFilter {
    /// All EC2 calls.
    #[must_use]
    pub fn ec2() -> Self {
        Self { service: Some(Service::Ec2), ..Self::default() }
    }

    fn passes(&self, call: &CallRecord) -> bool {
        self.service.is_none_or(|service| service == call.service)
            && self.action.as_ref().is_none_or(|action| *action == call.action)
            && self.instance.as_ref().is_none_or(|wanted| call.caller == Some(Caller::Instance(wanted.clone())))
            && call.number > self.after
            && !(self.errors_only && ((1..400).contains(&call.status) || call.service == Service::Lab))
            && self.fault.is_none_or(|fault| call.faults.contains(&fault))
    }
}

/// The calls that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    calls: VecDeque<CallRecord>,
    count: u64,
}

impl Ring {
    /// Remembers a call and gives it its number.
    pub(crate) fn push(&mut self, mut call: CallRecord) {
        self.count += 1;
        call.number = self.count;
        if self.calls.len() == CAPACITY {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// The calls that pass, oldest first.
    pub(crate) fn select(&self, filter: &CallFilter) -> Vec<CallRecord> {
        self.calls.iter().filter(|call| filter.passes(call)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: &str, status: u16) -> CallRecord {
        CallRecord {
            number: 0,
            at_ms: 0,
            took_us: 0,
            service: Service::Ec2,
            caller: Some(Caller::Account),
            caller_name: None,
            action: action.to_owned(),
            parameters: Vec::new(),
            status,
            error: None,
            answer: String::new(),
            request_id: String::new(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn the_oldest_call_is_forgotten_and_numbers_go_on() {
        let mut ring = Ring::default();
        (0..=CAPACITY).for_each(|_| ring.push(call("DescribeSubnets", 200)));
        let all = ring.select(&CallFilter::default());
        assert_eq!((all.len(), all[0].number), (CAPACITY, 2));
    }

    #[test]
    fn calls_are_found_by_action_number_and_failure() {
        let mut ring = Ring::default();
        for (action, status) in [("CreateTags", 200), ("CreateTags", 400), ("DescribeSubnets", 503)] {
            ring.push(call(action, status));
        }
        let numbers = |filter: CallFilter| ring.select(&filter).iter().map(|c| c.number).collect::<Vec<_>>();
        assert_eq!(numbers(CallFilter { action: Some("CreateTags".into()), ..CallFilter::default() }), [1, 2]);
        assert_eq!(numbers(CallFilter { errors_only: true, after: 2, ..CallFilter::default() }), [3]);
        assert!(numbers(CallFilter { service: Some(Service::Imds), ..CallFilter::default() }).is_empty());
    }
}
