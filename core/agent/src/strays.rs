//! ENIs that were made for this instance and that nobody knows: of a daemon that was killed between making and attaching, of a call
//! whose answer was lost, of a deletion nobody could ask about. They are looked for when their time has come and the settings allow to
//! delete them; there are two times, because the first is reckoned anew when the nodes of the cluster have been counted:
//!
//! ```text
//!   of a life:  start + when its last call has surely ended + a share of what all nodes' looks take
//!   of a call:  when the last call that may have made one has surely ended
//! ```

use vpc_model::{EniId, Millis, Time};

use crate::agent::Agent;
use crate::jobs::Job;
use crate::message::Notice;
use crate::pacer::Ec2Action;

/// When they are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strays {
    /// What earlier lives may have left: once, at the start.
    life: Option<Time>,
    /// What a call of this life may have left.
    call: Option<Time>,
    /// The look for what earlier lives left has begun.
    looked: bool,
}

impl Strays {
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Time> + '_ {
        self.life.into_iter().chain(self.call)
    }
}

impl Agent {
    /// When they are looked for again, if an ENI is just being made.
    const MAKING: Millis = Millis::seconds(30);

    /// Has an ENI that was made and never attached, because the daemon was killed in between, looked for: once, when a call that an
    /// earlier life sent off has surely ended.
    pub(crate) fn look_for_strays_later(&mut self, now: Time) {
        if self.cloud.strays.looked {
            return;
        }
        // Nodes that start together must not ask together, and not while others still want to know what they have.
        let (after, lap) = (self.config.strays_after, self.cloud.pacer.lap(Ec2Action::DescribeEnis));
        let most = Millis(after.0.max(lap.0).saturating_mul(3));
        let spread = self.cloud.pacer.jitter(most);
        self.cloud.strays.life = Some(now + after + lap + spread);
    }

    /// ENIs that a call of this life may have left are looked for then, or later if there is a reason to.
    pub(crate) fn look_for_strays_at(&mut self, at: Time) {
        let call = &mut self.cloud.strays.call;
        *call = Some(call.map_or(at, |other| other.max(at)));
    }

    /// Looks for them when a time has come and the settings allow to delete them.
    pub(crate) fn look_for_strays(&mut self, now: Time) {
        let due = self.cloud.strays.deadlines().any(|at| at <= now);
        // What is asked already may be answered with what was before.
        let asking = self.cloud.is_asking(|job| *job == Job::FindStrays);
        if due && !asking && !self.terminating && self.config.cloud.may_change() {
            let strays = &mut self.cloud.strays;
            strays.looked |= strays.life.is_some_and(|at| at <= now);
            strays.life = strays.life.filter(|at| *at > now);
            strays.call = strays.call.filter(|at| *at > now);
            self.start_job(Job::FindStrays, 0);
        }
    }

    pub(crate) fn discard_strays(&mut self, now: Time, enis: Vec<EniId>) {
        let unknown = |id: &EniId| !self.is_building(id) && self.pool.eni(id).is_none();
        let strays: Vec<EniId> = enis.into_iter().filter(unknown).collect();
        // One that is just being created may be in the list without being known yet.
        if !strays.is_empty() && self.cloud.fetch.builds().any(|build| build.eni().is_none()) {
            return self.look_for_strays_at(now + Self::MAKING);
        }
        for eni in strays {
            self.say(Notice::StrayFound { eni: eni.clone() });
            self.start_job(Job::Discard(eni), 0);
        }
    }
}
