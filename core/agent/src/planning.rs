//! When the pool is compared with its target, and with what in mind: who waits, who will, what is under way, what can not be had.
//!
//! On a node that takes no pods (cordoned; unless `AWS_MANAGE_ENIS_NON_SCHEDULABLE`) nothing is fetched ahead of demand and nothing
//! is given back. A pod that waits there is bound to the node already (a daemon set's, mostly), so exactly what it lacks is fetched.

use std::collections::BTreeSet;

use vpc_ipam::{Action, Demand, EniRole, Pending, Retired, SlotState, Target, Unit, WarmTarget, plan};
use vpc_model::{EniId, Millis, PodRef, SubnetId, Time};

use crate::agent::Agent;
use crate::cloud::CloudCall;
use crate::jobs::Job;
use crate::message::Notice;
use crate::places::{Choice, NoPlace};

/// Pods bound to the node that count as demand before their ADD comes, at most.
const LOOK_AHEAD_MOST: usize = 256;
/// How long a pod that was refused counts as demand: by then kubelet has made its next sandbox.
const COMES_AGAIN: Millis = Millis::seconds(30);

impl Agent {
    /// Compares the pool with its target and asks for what is missing, or gives back what is too much.
    pub(crate) fn plan_pool(&mut self, now: Time) {
        self.cloud.planned_at = now;
        self.cloud.plan_again = None;
        self.turned_away.retain(|_, at| now.since(*at) < COMES_AGAIN);
        if self.terminating || self.must_hear_first() {
            return;
        }
        if !self.waiters.is_empty() {
            self.cloud.fetch.learned.reconsider(now);
        }
        self.look_at_full_enis(now);
        let mut target = self.target();
        if !self.takes_pods() {
            target.warm = WarmTarget::Addresses { warm: 0, minimum: 0 };
        }
        let pending = self.pending(now, &target);
        let plan = plan(&target, &self.pool, &pending, self.demand(), now);
        self.cloud.plan_again = plan.again_at;
        let makes_eni = |action: &Action| matches!(action, Action::NewEni { .. });
        // What may be short for want of a place: another list may show one.
        let lacks_place = plan.short > 0 && pending.new_eni.is_none() && self.has_room_for_eni();
        let growing = !pending.no_growth && (lacks_place || plan.actions.iter().any(makes_eni));
        for action in plan.actions {
            match action {
                Action::Assign { eni, unit, count } => {
                    let count = self.asked_at_once(self.subnet_of(&eni).as_ref(), unit, count);
                    self.start_assign(eni, unit, count);
                }
                Action::NewEni { unit, count } => {
                    // Where nothing is to be had, the plan was made without; where it is not known yet, the list is on its way.
                    if let Ok(Choice { place, net, .. }) = self.places.choose(now, unit) {
                        let at_once = self.asked_at_once(Some(&place.subnet), unit, count);
                        // Whether it gives something again is seen from one call.
                        if !self.places.is_doubtful(&place.subnet, unit) || !self.is_asking_of(&place.subnet) {
                            self.start_build(unit, at_once, place, net);
                        }
                    }
                }
                Action::Release { eni, slots } => self.start_release(now, &eni, slots),
                Action::ReleaseEni { eni } => self.start_exit(eni),
            }
        }
        // A pool of prefixes that has single addresses learns from the list when there is room for a prefix again.
        let stands_in = |eni: &EniId| self.pool.count(eni, Unit::Address, SlotState::Held).empty > 0;
        let crowded = target.unit == Unit::Prefix && pending.crowded.iter().any(stands_in);
        self.ask_for_subnets(now, growing || crowded);
    }

    /// How much to ask of a subnet: after a refusal as little as shows whether it gives something again.
    fn asked_at_once(&self, subnet: Option<&SubnetId>, unit: Unit, count: u32) -> u32 {
        if subnet.is_some_and(|subnet| self.places.is_doubtful(subnet, unit)) { count.min(1) } else { count }
    }

    /// Whether a call that takes addresses of a subnet is to be made or answered.
    fn is_asking_of(&self, subnet: &SubnetId) -> bool {
        let mut assigning = self.cloud.assigning();
        self.cloud.fetch.is_building_in(subnet)
            || assigning.any(|(eni, ..)| self.subnet_of(eni).is_some_and(|of| of == *subnet))
    }

    fn ask_for_subnets(&mut self, now: Time, growing: bool) {
        if self.config.cloud.may_ask()
            && let Some(CloudCall::Subnets { also }) = self.places.wants_list(now, growing)
        {
            self.start_job(Job::Subnets { also }, 0);
        }
    }

    /// What is known of places has changed: says it, and what each ENI is for now.
    pub(crate) fn follow_places(&mut self) {
        for news in self.places.take_news() {
            self.say(Notice::Place(news));
        }
        let ours = self.pool.enis().filter(|eni| eni.role != EniRole::Retired(Retired::NotOurs));
        let roles: Vec<_> = ours.map(|eni| (eni.facts.id.clone(), self.places.role_of(&eni.facts), eni.keep)).collect();
        for (eni, role, keep) in roles {
            self.set_role(&eni, role, keep);
        }
    }

    /// Whether the node takes pods, or is kept ready for them all the same.
    pub(crate) fn takes_pods(&self) -> bool {
        self.config.manage_non_schedulable || !self.node.as_ref().is_some_and(|node| node.unschedulable)
    }

    /// Pods that want an address: those that wait, those that were refused one a moment ago, and those that Kubernetes has bound to the
    /// node and that never had one.
    pub(crate) fn demand(&self) -> Demand {
        let number = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
        let waiting = number(self.waiters.len());
        let nobody = BTreeSet::new();
        let bound = if self.config.look_ahead { &self.coming } else { &nobody };
        if bound.is_empty() && self.turned_away.is_empty() {
            return Demand { waiting, ..Demand::default() };
        }
        // At every settle: the pods that wait are few beside those that are bound or were turned away.
        let here: BTreeSet<&PodRef> = self.waiters.iter().map(|waiter| &waiter.request.pod).collect();
        let again = |pod: &PodRef| self.turned_away.contains_key(pod);
        let here_again = here.iter().filter(|pod| again(pod)).count();
        let here_bound = here.iter().filter(|pod| !again(pod) && bound.contains(**pod)).count();
        let bound_again =
            if bound.is_empty() { 0 } else { self.turned_away.keys().filter(|pod| bound.contains(*pod)).count() };
        let returning = (self.turned_away.len() - here_again).min(LOOK_AHEAD_MOST);
        let expected = (bound.len() - bound_again - here_bound).min(LOOK_AHEAD_MOST - returning);
        Demand { waiting, returning: number(returning), expected: number(expected) }
    }

    /// A pod goes without an address. What is fetched for it comes after its wait, and is there for its next sandbox.
    pub(crate) fn turn_away(&mut self, now: Time, pod: &PodRef) {
        if !pod.name.is_empty() {
            self.turned_away.insert(pod.clone(), now);
        }
    }

    /// When the first of those who were turned away no longer counts.
    pub(crate) fn turned_away_deadline(&self) -> Option<Time> {
        self.turned_away.values().min().map(|at| *at + COMES_AGAIN)
    }

    /// Kubernetes lists the pods bound to this node.
    pub(crate) fn pods_are(&mut self, pods: Vec<PodRef>) {
        let had = |pod: &PodRef| self.bound.contains(pod) && !self.coming.contains(pod);
        let bound: BTreeSet<PodRef> = pods.into_iter().collect();
        let here: BTreeSet<&PodRef> = self.pool.held().map(|held| &held.pod).collect();
        self.coming = bound.iter().filter(|pod| !here.contains(pod) && !had(pod)).cloned().collect();
        self.turned_away.retain(|pod, _| bound.contains(pod));
        self.bound = bound;
    }

    /// A pod has an address: when it loses that, it is ending, and will want no other.
    pub(crate) fn pod_has_address(&mut self, pod: &PodRef) {
        self.coming.remove(pod);
        self.turned_away.remove(pod);
    }

    fn pending(&self, now: Time, target: &Target) -> Pending {
        let cloud = &self.cloud;
        let growing = cloud.fetch.may_create(now) && !cloud.is_hearing();
        let mut refused = cloud.refreshing();
        refused.extend(cloud.fetch.full().cloned());
        if !cloud.fetch.may_assign(now) {
            refused.extend(self.pool.enis().map(|eni| eni.facts.id.clone()));
        }
        let in_subnet = |gives: &dyn Fn(&SubnetId) -> bool| -> BTreeSet<EniId> {
            let matching = self.pool.enis().filter(|eni| eni.facts.subnet_id.as_ref().is_some_and(gives));
            matching.map(|eni| eni.facts.id.clone()).collect()
        };
        refused.extend(in_subnet(&|subnet| self.places.exhausted(now, subnet).is_some()));
        let new_eni = match self.places.choose(now, target.unit) {
            Ok(choice) => Some(choice.unit),
            // Worth planning with: it is what makes the list be asked for.
            Err(NoPlace::Listing) => Some(target.unit),
            Err(_) => None,
        };
        let doubtful = [Unit::Address, Unit::Prefix].into_iter().flat_map(|unit| {
            let enis = in_subnet(&|subnet| self.places.is_doubtful(subnet, unit));
            enis.into_iter().map(move |eni| (eni, unit))
        });
        let idle = !self.takes_pods();
        Pending {
            assigning: cloud.assigning().map(|(eni, unit, count)| (eni.clone(), unit, count)).collect(),
            new_enis: cloud.fetch.builds().map(|build| (build.unit, build.count)).collect(),
            foreign_enis: self.others_here(),
            left: self.left(),
            refused,
            single_only: in_subnet(&|subnet| self.places.single_only(now, subnet)),
            doubtful: doubtful.collect(),
            crowded: in_subnet(&|subnet| self.places.is_crowded(now, subnet)),
            new_eni: new_eni.filter(|_| growing),
            at_most: cloud.fetch.at_most,
            no_growth: !self.config.cloud.may_change() || (idle && self.waiters.is_empty()),
            no_release: !self.config.cloud.may_release()
                || idle
                || !self.places.is_settled()
                || cloud.back.is_paused(now),
            last_release: cloud.back.last,
        }
    }

    /// What an ENI is for.
    pub(crate) fn role_of(&self, eni: &EniId) -> EniRole {
        self.pool.eni(eni).map_or(EniRole::Pods, |eni| self.places.role_of(&eni.facts))
    }
}
