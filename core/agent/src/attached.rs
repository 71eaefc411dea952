//! Which ENIs are on the instance: what EC2 counts against its limit.
//!
//! The books keep more: an ENI that somebody else took stays in them as long as a pod that had its address lives, and one that is given
//! back until it is deleted. Neither is in the way of a new one.

use std::collections::BTreeSet;

use vpc_ipam::{EniUse, PoolEni};
use vpc_model::EniId;

use crate::agent::Agent;

impl Agent {
    /// ENIs on the instance, ours and others', as far as EC2 has said.
    pub(crate) fn enis_here(&self) -> u32 {
        let ours = self.pool.enis().filter(|eni| !self.has_left(eni)).count();
        u32::try_from(ours).unwrap_or(u32::MAX).saturating_add(self.others_here())
    }

    /// ENIs on the instance that the pool does not use.
    pub(crate) fn others_here(&self) -> u32 {
        u32::try_from(self.others.values().filter(|other| !other.left).count()).unwrap_or(u32::MAX)
    }

    /// ENIs of the pool that are not on the instance any more.
    pub(crate) fn left(&self) -> BTreeSet<EniId> {
        self.pool.enis().filter(|eni| self.has_left(eni)).map(|eni| eni.facts.id.clone()).collect()
    }

    /// Whether there is room for one ENI more, beside those that are being made.
    pub(crate) fn has_room_for_eni(&self) -> bool {
        self.enis_here() as usize + self.cloud.fetch.builds().count() < self.target().max_enis as usize
    }

    /// EC2 has said twice that it is not here, or has detached it, or another one sits in its place.
    fn has_left(&self, eni: &PoolEni) -> bool {
        let settled = |other: &PoolEni| other.usage != EniUse::Doubtful;
        match eni.usage {
            EniUse::Doubtful => self.recon.is_surely_absent(&eni.facts.id) || self.in_place_of(&eni.facts).any(settled),
            EniUse::Leaving => self.cloud.back.is_detached(&eni.facts.id),
            EniUse::SettingUp | EniUse::Ready => false,
        }
    }
}
