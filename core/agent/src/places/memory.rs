//! What subnets refused, each for itself, and for how long that is believed.

use std::collections::BTreeMap;

use vpc_ipam::Unit;
use vpc_model::{Millis, SubnetId, Time};

use super::Refused;
use crate::cloud::FailureClass;

#[derive(Clone, Debug, Default)]
pub(super) struct Memory(BTreeMap<SubnetId, Refusals>);

#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    exhausted: Option<Pause>,
    fragmented: Option<Pause>,
    unknown: Option<Pause>,
    /// Addresses this node has given back to it since, and not taken again.
    own: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Time,
    streak: u32,
}

impl Memory {
    /// Notes a refusal; says until when it is believed if that is news. Refusals during a pause are answers to calls that were
    /// under way when it began: they say nothing new.
    pub(super) fn refused(&mut self, now: Time, subnet: &SubnetId, class: FailureClass) -> Option<Time> {
        if !matches!(class, FailureClass::SubnetExhausted | FailureClass::Fragmented | FailureClass::NotFound) {
            return None;
        }
        let refusals = self.0.entry(subnet.clone()).or_default();
        let pause = match class {
            FailureClass::SubnetExhausted => &mut refusals.exhausted,
            FailureClass::Fragmented => &mut refusals.fragmented,
            _ => &mut refusals.unknown,
        };
        if pause.is_some_and(|pause| pause.until > now) {
            return None;
        }
        let streak = pause.map_or(0, |pause| pause.streak) + 1;
        let until = now + pause_after(class, streak);
        *pause = Some(Pause { until, streak });
        Some(until)
    }

    /// It gave something; says whether that shows that it has room. It does not where it is what this node has just given back, as where
    /// one address makes place on an ENI to ask for a prefix, and is taken again when there is none.
    pub(super) fn worked(&mut self, subnet: &SubnetId, unit: Unit, addresses: u32) -> bool {
        let Some(refusals) = self.0.get_mut(subnet) else { return true };
        refusals.unknown = None;
        let own = refusals.own.min(addresses);
        refusals.own -= own;
        if own > 0 && own == addresses {
            return false;
        }
        refusals.exhausted = None;
        if unit == Unit::Prefix || refusals.fragmented.is_none() {
            self.0.remove(subnet);
        }
        true
    }

    pub(super) fn got_back(&mut self, subnet: &SubnetId, addresses: u32) {
        if let Some(refusals) = self.0.get_mut(subnet) {
            refusals.own = refusals.own.saturating_add(addresses);
        }
    }

    pub(super) fn is_known(&mut self, subnet: &SubnetId) {
        if let Some(refusals) = self.0.get_mut(subnet) {
            refusals.unknown = None;
        }
    }

    /// Whether it gives nothing now: why, and until when that is believed.
    pub(super) fn closed(&self, now: Time, subnet: &SubnetId) -> Option<(Refused, Time)> {
        let exhausted = self.exhausted(now, subnet).map(|until| (Refused::Exhausted, until));
        let unknown = || self.lasting(now, subnet, |refusals| refusals.unknown).map(|until| (Refused::Unknown, until));
        exhausted.or_else(unknown)
    }

    pub(super) fn exhausted(&self, now: Time, subnet: &SubnetId) -> Option<Time> {
        self.lasting(now, subnet, |refusals| refusals.exhausted)
    }

    pub(super) fn fragmented(&self, now: Time, subnet: &SubnetId) -> Option<Time> {
        self.lasting(now, subnet, |refusals| refusals.fragmented)
    }

    pub(super) fn is_unknown(&self, now: Time, subnet: &SubnetId) -> bool {
        self.lasting(now, subnet, |refusals| refusals.unknown).is_some()
    }

    pub(super) fn is_doubtful(&self, subnet: &SubnetId, unit: Unit) -> bool {
        let refused = |refusals: &Refusals| {
            refusals.exhausted.is_some() || (unit == Unit::Prefix && refusals.fragmented.is_some())
        };
        self.0.get(subnet).is_some_and(refused)
    }

    pub(super) fn pauses(&self) -> impl Iterator<Item = Time> + '_ {
        let all = self.0.values().flat_map(|refusals| [refusals.exhausted, refusals.fragmented, refusals.unknown]);
        all.flatten().map(|pause| pause.until)
    }

    fn lasting(&self, now: Time, subnet: &SubnetId, which: fn(&Refusals) -> Option<Pause>) -> Option<Time> {
        self.0.get(subnet).and_then(which).map(|pause| pause.until).filter(|until| *until > now)
    }
}

/// The class's pause, doubled for every failure in a row, at most [`FailureClass::LONGEST`].
pub(crate) fn pause_after(class: FailureClass, failures: u32) -> Millis {
    let doubled = class.pause().0.saturating_mul(1 << failures.saturating_sub(1).min(16));
    Millis(doubled.min(FailureClass::LONGEST.0))
}
