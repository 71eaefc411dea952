//! What stands between a call and its deed: throttling, lag and faults. (What IAM says is asked when it is carried out.)
//!
//! All of it is decided when the request arrives ([`Cloud::judge`]) and goes along with it as a [`Verdict`]: what is
//! injected or lifted later does not concern a call in flight, and every draw of chance falls in the order of arrival.

use std::borrow::Cow;

use vpc_aws::ec2::shapes::AnyRequest;
use vpc_model::{EniId, Millis, SubnetId};

use crate::cloud::{Caller, Cloud};
use crate::describe::matches;
use crate::error::ApiError;
use crate::fault::{CloudFault, ErrorWhen, FaultId};
use crate::faults::{Active, Memory};
use crate::throttle::{Bucket, Level, limit_exceeded};

/// What becomes of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// How much longer it takes.
    pub(crate) delay: Millis,
    /// How old the world is that it sees.
    pub(crate) lag: Millis,
    /// Not carried out: answered so.
    pub(crate) refused: Option<ApiError>,
    /// Whether that is for want of a token.
    pub(crate) throttled: bool,
    /// Carried out, but answered in another way.
    pub(crate) ending: Ending,
    /// Faults that had a hand in it.
    pub(crate) faults: Vec<FaultId>,
}

/// How a call that is carried out ends.
#[derive(Clone, Debug, Default)]
pub(crate) enum Ending {
    /// It is answered.
    #[default]
    Answer,
    /// This is answered whatever came of it.
    Error(ApiError),
    /// Nothing is answered.
    Lost,
}

impl Cloud {
    /// Decides about a call that arrives now.
    pub(crate) fn judge(&mut self, caller: &Caller, request: &AnyRequest) -> Verdict {
        let mut verdict = Verdict::default();
        if !self.has_token(request) {
            return Verdict { throttled: true, refused: Some(limit_exceeded()), ..verdict };
        }
        verdict.lag = self.dice.span(self.setup.consistency.span(request));
        if self.faults.is_empty() {
            return verdict;
        }
        let denied = self.refusal(caller, &format!("ec2:{}", request.name()), "*", true);
        let subnet = self.subnet_asked(request);
        let now = self.now;
        let mut jitter = Vec::new();
        for (id, active) in self.faults.iter_mut() {
            if !concerns(active, caller, request, subnet.as_ref()) {
                continue;
            }
            match (&active.fault, &mut active.memory) {
                (CloudFault::Throttle { capacity, refill_per_second, .. }, Memory::Buckets(buckets)) => {
                    let bucket = Bucket { capacity: *capacity, refill_per_second: *refill_per_second };
                    let level = buckets.entry(request.name().to_owned()).or_insert_with(|| Level::full(bucket, now));
                    if level.take(bucket, now) {
                        continue;
                    }
                    verdict.throttled = true;
                    verdict.refused = Some(limit_exceeded());
                }
                (CloudFault::Latency { add_ms, jitter_ms, .. }, _) => {
                    verdict.delay = Millis(verdict.delay.0.saturating_add(*add_ms));
                    jitter.push(*jitter_ms);
                }
                (CloudFault::Deny { .. }, _) => {
                    _ = verdict.refused.get_or_insert_with(|| denied.clone());
                }
                (CloudFault::Error { .. }, Memory::Matched(count)) => {
                    *count += 1;
                    if !strikes(&active.fault, *count) {
                        continue;
                    }
                    spoil(&mut verdict, &active.fault);
                }
                (CloudFault::SubnetExhausted { .. } | CloudFault::SubnetFragmented { .. }, _) => {}
                _ => continue,
            }
            verdict.faults.push(id);
        }
        for most in jitter {
            let more = self.dice.below(most.saturating_add(1));
            verdict.delay = Millis(verdict.delay.0.saturating_add(more));
        }
        verdict
    }

    /// Takes a token for a request; false if there is none.
    fn has_token(&mut self, request: &AnyRequest) -> bool {
        let Some((name, bucket)) = self.setup.throttle.bucket(request) else { return true };
        let now = self.now;
        self.buckets.entry(name).or_insert_with(|| Level::full(bucket, now)).take(bucket, now)
    }

    /// The subnet that a call asks for addresses of.
    fn subnet_asked(&self, request: &AnyRequest) -> Option<SubnetId> {
        let query = request.query();
        match request.name() {
            "CreateNetworkInterface" | "RunInstances" => {
                let given = ["SubnetId", "NetworkInterface.1.SubnetId"];
                given.iter().find_map(|name| query.get(name)?.parse().ok())
            }
            "AssignPrivateIpAddresses" => {
                let eni: EniId = query.get("NetworkInterfaceId")?.parse().ok()?;
                self.world.enis.get(&eni).map(|eni| eni.subnet.clone())
            }
            _ => None,
        }
    }
}

/// Whether a fault is about this call.
fn concerns(active: &Active, caller: &Caller, request: &AnyRequest, subnet: Option<&SubnetId>) -> bool {
    if let Memory::Taken(taken) = &active.memory {
        return subnet == Some(taken);
    }
    active.is_about_caller(caller) && active.fault.action().is_some_and(|action| matches(action, request.name()))
}

/// Whether an error strikes the `count`-th call that matches, counted from 1.
fn strikes(fault: &CloudFault, count: u64) -> bool {
    let CloudFault::Error { skip, times, .. } = fault else { return false };
    let skip = u64::from(*skip);
    count > skip && times.is_none_or(|times| count <= skip + u64::from(times))
}

fn spoil(verdict: &mut Verdict, fault: &CloudFault) {
    let CloudFault::Error { code, message, status, when, .. } = fault else { return };
    let (usual_status, usual_message) = usual(code);
    let error = ApiError {
        code: Cow::Owned(code.clone()),
        message: message.clone().unwrap_or_else(|| usual_message.to_owned()),
        status: status.unwrap_or(usual_status),
    };
    match when {
        ErrorWhen::Before => _ = verdict.refused.get_or_insert(error),
        ErrorWhen::After => verdict.ending = Ending::Error(error),
        ErrorWhen::Lost => verdict.ending = Ending::Lost,
    }
}

/// Status and text that EC2 has for a code.
fn usual(code: &str) -> (u16, &'static str) {
    match code {
        "InternalError" | "InternalFailure" | "ServerInternal" => (500, "An internal error has occurred"),
        "Unavailable" | "ServiceUnavailable" => (503, "The service is unavailable. Please try again shortly."),
        "RequestLimitExceeded" => (503, "Request limit exceeded."),
        "InsufficientInstanceCapacity" => (500, "There is not enough capacity to fulfill your request."),
        "UnauthorizedOperation" => (403, "You are not authorized to perform this operation."),
        "AuthFailure" => (401, "AWS was not able to validate the provided access credentials"),
        "RequestExpired" => (400, "Request has expired."),
        "InsufficientFreeAddressesInSubnet" => {
            (400, "The specified subnet does not have enough free addresses to satisfy the request.")
        }
        "InsufficientCidrBlocks" => {
            (400, "The specified subnet does not have enough free cidr blocks to satisfy the request.")
        }
        "PrivateIpAddressLimitExceeded" => (400, "Number of private addresses will exceed limit."),
        _ => (400, "The request was refused by a fault of the lab."),
    }
}
