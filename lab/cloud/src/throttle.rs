//! Token buckets: how many requests EC2 takes before it says `RequestLimitExceeded`.
//!
//! Each action has a bucket of its own, shared by everybody in the account. A bucket is full at first; a request takes a
//! token; tokens come back evenly. Everything is counted in thousandths of a token per millisecond, so that there is no
//! rounding and the same requests at the same times are refused in every run. The decision falls when the request arrives,
//! before anything else is looked at.

use std::collections::BTreeMap;

use vpc_aws::ec2::shapes::{AnyRequest, Query};
use vpc_model::Time;

use crate::error::ApiError;

/// Thousandths in a token.
const WHOLE: u64 = 1000;

/// A bucket's size and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Requests that can be made at once.
    pub capacity: u32,
    /// Requests a second after that.
    pub refill_per_second: u32,
}

/// Which buckets there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// What holds for actions that are not named below.
    pub base: ThrottleBase,
    /// Buckets of single actions, by name (`CreateNetworkInterface`).
    pub actions: BTreeMap<String, Bucket>,
}

/// Buckets of all actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThrottleBase {
    /// None: nothing is refused.
    #[default]
    Off,
    /// As AWS documents them for new accounts.
    Aws,
}

impl Throttle {
    /// No throttling.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// As AWS.
    #[must_use]
    pub fn aws() -> Self {
        Self { base: ThrottleBase::Aws, actions: BTreeMap::new() }
    }

    /// The bucket of an action; for one that describes, that of requests with filters, ids or pages. `None`: there is none.
    #[must_use]
    pub fn of(&self, action: &str) -> Option<Bucket> {
        match (self.actions.get(action), self.base) {
            (Some(bucket), _) => Some(*bucket),
            (None, ThrottleBase::Off) => None,
            (None, ThrottleBase::Aws) => Some(sizes(action, true)),
        }
    }

    /// The bucket a request takes its token from, with its name; `None`: there is none.
    pub(crate) fn bucket(&self, request: &AnyRequest) -> Option<(String, Bucket)> {
        let action = request.name();
        if let Some(bucket) = self.actions.get(action) {
            return Some((action.to_owned(), *bucket));
        }
        match self.base {
            ThrottleBase::Off => None,
            ThrottleBase::Aws => Some(aws(action, &request.query())),
        }
    }
}

/// AWS's buckets. A Describe call that asks for everything at once has a smaller one than one with filters, ids or pages.
fn aws(action: &str, query: &Query) -> (String, Bucket) {
    let narrows = |(name, _): &(String, String)| !matches!(name.as_str(), "Action" | "Version" | "DryRun");
    let narrow = !is_read(action) || query.pairs().iter().any(narrows);
    let name = if narrow { action.to_owned() } else { format!("{action} without filter") };
    (name, sizes(action, narrow))
}

fn is_read(action: &str) -> bool {
    action.starts_with("Describe") || action.starts_with("Get")
}

fn sizes(action: &str, narrow: bool) -> Bucket {
    let bucket = |capacity, refill_per_second| Bucket { capacity, refill_per_second };
    match action {
        _ if is_read(action) && narrow => bucket(100, 20),
        _ if is_read(action) => bucket(50, 10),
        "AssignIpv6Addresses"
        | "AssignPrivateIpAddresses"
        | "CreateNetworkInterface"
        | "DeleteNetworkInterface"
        | "UnassignIpv6Addresses"
        | "UnassignPrivateIpAddresses" => bucket(100, 5),
        "CreateTags" | "DeleteTags" => bucket(100, 10),
        "RunInstances" => bucket(5, 2),
        "TerminateInstances" => bucket(100, 5),
        _ => bucket(50, 5),
    }
}

/// What is in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Thousandths of tokens.
    parts: u64,
    at: Time,
}

impl Level {
    /// A full bucket.
    pub(crate) fn full(bucket: Bucket, now: Time) -> Self {
        Self { parts: u64::from(bucket.capacity) * WHOLE, at: now }
    }

    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self, bucket: Bucket, now: Time) -> bool {
        let grown = now.since(self.at).0.saturating_mul(u64::from(bucket.refill_per_second));
        self.parts = self.parts.saturating_add(grown).min(u64::from(bucket.capacity) * WHOLE);
        self.at = self.at.max(now);
        match self.parts.checked_sub(WHOLE) {
            Some(rest) => {
                self.parts = rest;
                true
            }
            None => false,
        }
    }
}

/// EC2's answer to one request too many.
pub(crate) fn limit_exceeded() -> ApiError {
    ApiError { code: "RequestLimitExceeded".into(), message: "Request limit exceeded.".to_owned(), status: 503 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_flows_in() {
        let bucket = Bucket { capacity: 3, refill_per_second: 5 };
        let mut level = Level::full(bucket, Time(0));
        let taken = |level: &mut Level, at| (0..10).filter(|_| level.take(bucket, Time(at))).count();
        assert_eq!((taken(&mut level, 0), taken(&mut level, 199), taken(&mut level, 200)), (3, 0, 1));
        assert_eq!(taken(&mut level, 1000), 3, "never more than it holds");
        // Looking at odd moments loses nothing: 5 a second is 10 in two seconds, however they are cut.
        let sum: usize = (1..=2000).map(|ms| usize::from(level.take(bucket, Time(1000 + ms)))).sum();
        assert_eq!(sum, 10);
    }

    #[test]
    fn a_bucket_without_refill_stays_empty() {
        let bucket = Bucket { capacity: 0, refill_per_second: 0 };
        assert!(!Level::full(bucket, Time(0)).take(bucket, Time(u64::MAX)));
    }
}
