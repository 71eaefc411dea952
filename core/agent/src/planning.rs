//! When the pool is compared with its target, and with what in mind: who waits, who will, what is under way, what can not be had.
//!
//! On a node that takes no pods (cordoned; unless `AWS_MANAGE_ENIS_NON_SCHEDULABLE`) nothing is fetched ahead of demand and nothing
//! is given back. A pod that waits there is bound to the node already (a daemon set's, mostly), so exactly what it lacks is fetched.

use std::collections::BTreeSet;

use vpc_ipam::{Action, Demand, EniRole, Pending, Target, Unit, WarmTarget, plan};
use vpc_model::{EniId, PodRef, Subnet, Time};

use crate::agent::Agent;
use crate::cloud::Place;

/// Pods bound to the node that count as demand before their ADD comes, at most.
const LOOK_AHEAD_MOST: usize = 256;

impl Agent {
    /// Compares the pool with its target and asks for what is missing, or gives back what is too much.
    pub(crate) fn plan_pool(&mut self, now: Time) {
        self.cloud.planned_at = now;
        self.cloud.plan_again = None;
        if self.terminating || self.must_hear_first() {
            return;
        }
        let mut target = self.target();
        if !self.takes_pods() {
            target.warm = WarmTarget::Addresses { warm: 0, minimum: 0 };
        }
        let pending = self.pending(now, &target);
        let plan = plan(&target, &self.pool, &pending, self.demand(), now);
        self.cloud.plan_again = plan.again_at;
        for action in plan.actions {
            match action {
                Action::Assign { .. } | Action::NewEni { .. } if pending.no_growth => {}
                Action::Release { .. } | Action::ReleaseEni { .. } if pending.no_release => {}
                Action::Assign { eni, unit, count } => self.start_assign(eni, unit, count),
                Action::NewEni { unit, count } => {
                    if let Some((place, net)) = self.place_for(unit) {
                        self.start_build(unit, count, place, net);
                    }
                }
                Action::Release { eni, slots } => self.start_release(now, &eni, slots),
                Action::ReleaseEni { eni } => self.start_exit(eni),
            }
        }
    }

    /// Whether the node takes pods, or is kept ready for them all the same.
    pub(crate) fn takes_pods(&self) -> bool {
        self.config.manage_non_schedulable || !self.node.as_ref().is_some_and(|node| node.unschedulable)
    }

    /// Pods that want an address: those that wait, and those that Kubernetes has bound to the node and that never had one.
    pub(crate) fn demand(&self) -> Demand {
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        if !self.config.look_ahead || self.coming.is_empty() {
            return Demand { waiting, expected: 0 };
        }
        let here: BTreeSet<&PodRef> = self.waiters.iter().map(|waiter| &waiter.request.pod).collect();
        let coming = self.coming.len() - here.into_iter().filter(|pod| self.coming.contains(*pod)).count();
        Demand { waiting, expected: u32::try_from(coming.min(LOOK_AHEAD_MOST)).unwrap_or(u32::MAX) }
    }

    /// Kubernetes lists the pods bound to this node.
    pub(crate) fn pods_are(&mut self, pods: Vec<PodRef>) {
        let had = |pod: &PodRef| self.bound.contains(pod) && !self.coming.contains(pod);
        let bound: BTreeSet<PodRef> = pods.into_iter().collect();
        let here: BTreeSet<&PodRef> = self.pool.held().map(|held| &held.pod).collect();
        self.coming = bound.iter().filter(|pod| !here.contains(pod) && !had(pod)).cloned().collect();
        self.bound = bound;
    }

    /// A pod has an address: when it loses that, it is ending, and will want no other.
    pub(crate) fn pod_has_address(&mut self, pod: &PodRef) {
        self.coming.remove(pod);
    }

    fn pending(&self, now: Time, target: &Target) -> Pending {
        let cloud = &self.cloud;
        let growing = cloud.fetch.may_create(now) && !cloud.is_hearing();
        let mut refused = cloud.refreshing();
        if !cloud.fetch.may_assign(now) {
            refused.extend(self.pool.enis().map(|eni| eni.facts.id.clone()));
        }
        let idle = !self.takes_pods();
        Pending {
            assigning: cloud.assigning().map(|(eni, unit, count)| (eni.clone(), unit, count)).collect(),
            new_enis: cloud.fetch.builds().map(|build| (build.unit, build.count)).collect(),
            foreign_enis: u32::try_from(self.others.len()).unwrap_or(u32::MAX),
            refused,
            single_only: BTreeSet::new(),
            new_eni: growing.then_some(target.unit),
            at_most: cloud.fetch.at_most,
            no_growth: !self.config.cloud.may_change() || (idle && self.waiters.is_empty()),
            no_release: !self.config.cloud.may_release() || idle || cloud.back.is_paused(now),
            last_release: cloud.back.last,
        }
    }

    /// What an ENI is for.
    pub(crate) fn role_of(&self, _eni: &EniId) -> EniRole {
        EniRole::Pods
    }

    /// Where a new ENI is made now, and the network of that subnet.
    fn place_for(&mut self, _unit: Unit) -> Option<(Place, Subnet)> {
        let net = self.pool.enis().find(|eni| eni.facts.is_primary()).map(|eni| eni.facts.subnet)?;
        Some((Place { subnet: self.home.clone(), groups: self.groups.clone() }, net))
    }
}
