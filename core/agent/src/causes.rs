//! Which cause a refusal names: the first of those that explain it, the ones people can do something about first.

use std::collections::BTreeSet;

use vpc_ipam::{EniRole, PoolEni, SlotState};
use vpc_model::{Millis, SubnetId, Time};

use crate::agent::Agent;
use crate::cloud::{CloudFailure, FailureClass};
use crate::places::NoPlace;
use crate::refusal::Refusal;

impl Agent {
    /// Why a pod that has waited this long gets no address.
    pub(crate) fn why_none(&self, now: Time, waiting: u32, waited: Millis) -> Refusal {
        if let Some(error) = self.host.error() {
            return Refusal::Host { error: error.to_owned() };
        }
        let stats = self.pool.stats();
        let unconfirmed = self.unconfirmed();
        let unheard = self.config.cloud.may_ask() && !self.recon.heard_ec2();
        if (unheard && unconfirmed > 0) || self.must_hear_first() {
            let failure = self.cloud.last_refusal().cloned();
            return Refusal::Unconfirmed { addresses: unconfirmed, failure, waited };
        }
        // What is ready and was not given is just being taken off the host, where a former pod's routes still lead to it. What came
        // before the settings forbade more is set up all the same.
        let arriving = stats.setting_up + stats.ready;
        if !self.config.cloud.may_change() && arriving > 0 {
            return Refusal::Warming { coming: arriving, waiting, waited };
        }
        if !self.config.cloud.may_change() {
            let (total, held, cooling) = (stats.total, stats.held, stats.cooling);
            return Refusal::CloudOff { allowed: self.config.cloud, total, held, cooling, waited };
        }
        // An ENIConfig that is gone or wrong explains it, whatever EC2 said before that.
        if self.has_room_for_eni()
            && self.config.placing.custom.is_some()
            && let Err(why) = self.places.choose(now, self.target().unit)
            && !matches!(why, NoPlace::Listing | NoPlace::AllRefused { .. })
        {
            return Refusal::NoPlace { why, waited };
        }
        if let Some(refusal) = self.cloud_refused(now, waited) {
            return refusal;
        }
        let room = self.has_room_for_eni();
        let coming = self.cloud.coming() + arriving;
        let preparing = !self.cloud.refreshing().is_empty() || self.cloud.back.makes_room();
        let mut fetching = coming > 0 || preparing || !self.host.is_set();
        if room && coming == 0 {
            match self.places.choose(now, self.target().unit) {
                // The first step of fetching.
                Err(NoPlace::Listing) => fetching = true,
                Err(why) => return Refusal::NoPlace { why, waited },
                Ok(_) => {}
            }
        }
        if fetching && !self.takes_pods() {
            return Refusal::NotSchedulable { coming, waiting, waited };
        }
        if fetching {
            return Refusal::Warming { coming, waiting, waited };
        }
        match self.pool.next_rest_end() {
            Some(at) if stats.cooling > 0 => Refusal::Cooling {
                total: stats.total,
                held: stats.held,
                cooling: stats.cooling,
                next_free_in: at.since(now),
                waited,
            },
            _ => Refusal::Full {
                enis: self.enis_here(),
                max_enis: self.target().max_enis,
                total: stats.total,
                held: stats.held,
                retired: self.retired_with_pods(),
                waited,
            },
        }
    }

    fn retired_with_pods(&self) -> u32 {
        let retired = self.pool.enis().filter(|eni| matches!(eni.role, EniRole::Retired(_)));
        let stuck = retired.filter(|eni| self.pool.on(&eni.facts.id).is_some_and(|(held, _)| held > 0));
        u32::try_from(stuck.count()).unwrap_or(u32::MAX)
    }

    /// What EC2 said last, if nothing has come since.
    fn cloud_refused(&self, now: Time, waited: Millis) -> Option<Refusal> {
        let exhausted = self.closed_subnets(|subnet| self.places.exhausted(now, subnet).is_some());
        if !exhausted.is_empty() {
            let until = exhausted.iter().filter_map(|subnet| self.places.exhausted(now, subnet)).min();
            let retry_in = until.unwrap_or(now).since(now);
            return Some(Refusal::SubnetExhausted { subnets: exhausted, retry_in, waited });
        }
        if let Some((at, failure)) = self.cloud.held_up() {
            return Some(Refusal::Throttled { failure: failure.clone(), retry_in: at.since(now), waited });
        }
        let (failure, until) = self.cloud.fetch.refused(now)?;
        Some(self.refused_by(failure, until.since(now), now, waited))
    }

    fn refused_by(&self, failure: &CloudFailure, retry_in: Millis, now: Time, waited: Millis) -> Refusal {
        let failure = failure.clone();
        match failure.class {
            FailureClass::Throttled => Refusal::Throttled { failure, retry_in, waited },
            FailureClass::Unauthorized => {
                Refusal::Denied { action: format!("ec2:{}", failure.action), failure, retry_in, waited }
            }
            // What would be asked for has no subnet any more (ENIs have filled or left since): EC2's own words say which it was.
            FailureClass::SubnetExhausted => match self.closed_subnets(|_| true) {
                subnets if subnets.is_empty() => Refusal::Cloud { failure, retry_in, waited },
                subnets => Refusal::SubnetExhausted { subnets, retry_in, waited },
            },
            FailureClass::Fragmented => match self.closed_subnets(|subnet| self.places.single_only(now, subnet)) {
                subnets if subnets.is_empty() => Refusal::Cloud { failure, retry_in, waited },
                subnets => Refusal::Fragmented { subnets, retry_in, waited },
            },
            _ => Refusal::Cloud { failure, retry_in, waited },
        }
    }

    /// Subnets of ENIs with room for more, or where a new ENI would be made, that are `closed`.
    fn closed_subnets(&self, closed: impl Fn(&SubnetId) -> bool) -> Vec<SubnetId> {
        let slots = self.target().slots_per_eni as usize;
        // A position that EC2 does not list any more takes none, though its pod lives.
        let taken = |eni: &PoolEni| eni.slots.values().filter(|state| **state != SlotState::Missing).count();
        let with_room = self.pool.enis().filter(|eni| eni.takes_pods() && taken(eni) < slots);
        let mut subnets: BTreeSet<SubnetId> = with_room.filter_map(|eni| eni.facts.subnet_id.clone()).collect();
        if self.has_room_for_eni() {
            subnets.extend(self.cloud.fetch.tried().cloned());
        }
        subnets.into_iter().filter(closed).collect()
    }

    /// Addresses that only the metadata show.
    fn unconfirmed(&self) -> u32 {
        let slots = self.pool.enis().flat_map(|eni| &eni.slots);
        slots.filter(|(_, state)| **state == SlotState::Unconfirmed).map(|(slot, _)| slot.size()).sum()
    }
}
