//! The host pass: look at the host, compare it with what it should be, change what differs.
//!
//! One pass is under way at a time. It starts when something it depends on has changed (an ENI came or goes, the VPC's CIDRs
//! changed, a link appeared), and from time to time by itself, because firewalls get reloaded and rules get flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_hostnet::{EniOnHost, HostState, HostView, LinkAlias, PodOnHost, desired, plan, priority};
use vpc_ipam::{EniUse, Held};
use vpc_model::{EniId, Mac, Millis, Slot, Time, host_veth};

use crate::agent::Agent;
use crate::cloud::OpId;
use crate::message::{Effect, Notice, Wake};

/// What the agent knows of the host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    step: Step,
    /// Something the host depends on has changed since the last look.
    dirty: bool,
    /// The host was as it should be at least once.
    set: bool,
    error: Option<String>,
    failures: u32,
    /// ENIs that are attached but have no link yet.
    missing: BTreeSet<Mac>,
    /// ENIs of the pool when the host was last looked at.
    viewed: BTreeSet<EniId>,
    /// ENIs whose routes are taken off: whether a pass without them is done.
    clearing: BTreeMap<EniId, bool>,
    /// Addresses that rules or routes of pods were seen for.
    pods_seen: BTreeSet<Ipv4Addr>,
    /// When the last look was.
    pub(crate) looked_at: Time,
    /// Looks begun so far.
    begun: u64,
    /// Which of them showed the host last.
    shown: u64,
    next_look: Option<Time>,
}

/// A look at the host: the how manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look(u64);

#[derive(Clone, Debug)]
enum Step {
    Idle,
    Looking { op: OpId, without: BTreeSet<EniId> },
    Changing { op: OpId, without: BTreeSet<EniId>, missing: BTreeSet<Mac>, podless: BTreeSet<Ipv4Addr> },
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            step: Step::Idle,
            dirty: true,
            set: false,
            error: None,
            failures: 0,
            missing: BTreeSet::new(),
            viewed: BTreeSet::new(),
            clearing: BTreeMap::new(),
            pods_seen: BTreeSet::new(),
            looked_at: Time(0),
            begun: 0,
            shown: 0,
            next_look: None,
        }
    }

    pub(crate) fn is_dirty(&mut self) {
        self.dirty = true;
    }

    /// Asks for a look that begins from now on; [`Self::has_shown`] tells when it is done. Times would not do: all of it can happen
    /// within a millisecond.
    pub(crate) fn look_again(&mut self) -> Look {
        self.dirty = true;
        Look(self.begun + 1)
    }

    /// Whether a look that was asked for, or a later one, has shown the host.
    pub(crate) fn has_shown(&self, look: Look) -> bool {
        self.shown >= look.0
    }

    /// Whether the host was as it should be at least once.
    pub(crate) fn is_set(&self) -> bool {
        self.set
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Addresses whose rules and routes are being removed right now: nobody may get one before that is done.
    pub(crate) fn removing(&self) -> Option<&BTreeSet<Ipv4Addr>> {
        match &self.step {
            Step::Changing { podless, .. } => Some(podless),
            Step::Idle | Step::Looking { .. } => None,
        }
    }

    /// Whether no pass is under way: deadlines that would start one count only then.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle)
    }

    /// Takes an ENI's routes and rules off with the next pass.
    pub(crate) fn clear(&mut self, eni: &EniId) {
        self.clearing.insert(eni.clone(), false);
        self.dirty = true;
    }

    /// The ENI stays after all: the next pass sets it up again.
    pub(crate) fn unclear(&mut self, eni: &EniId) {
        self.clearing.remove(eni);
        self.dirty = true;
    }

    /// Whether a pass without the ENI is done.
    pub(crate) fn is_clear_of(&self, eni: &EniId) -> bool {
        self.clearing.get(eni).copied().unwrap_or(false)
    }

    /// Whether the last look showed a rule or route of a pod's address in one of the positions.
    pub(crate) fn uses_any_of(&self, slots: &[Slot]) -> bool {
        self.pods_seen.iter().any(|address| slots.iter().any(|slot| slot.contains(*address)))
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Time, Wake)> + '_ {
        let wake = if self.missing.is_empty() { Wake::Audit } else { Wake::LookForLink };
        self.next_look.filter(|_| self.is_idle()).map(|at| (at, wake)).into_iter()
    }

    /// Whether a pass would start at once if there were a reason.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_idle() && self.error.is_none()
    }
}

impl Agent {
    /// How often an attached ENI's link is looked for if the kernel did not report it.
    const LINK_POLL: Millis = Millis(500);
    /// After a change nobody announced, how long to let it settle before looking.
    const SETTLE: Millis = Millis::seconds(5);
    /// First pause after a failed pass; doubled up to a minute.
    const RETRY: Millis = Millis(500);

    pub(crate) fn host_changed(&mut self, now: Time) {
        if self.host.missing.is_empty() {
            let soon = now + Self::SETTLE;
            self.host.next_look = Some(self.host.next_look.map_or(soon, |at| at.min(soon)));
        } else {
            self.host.dirty = true;
        }
    }

    /// Starts a pass if there is reason for one and none is under way.
    pub(crate) fn host_pass(&mut self, now: Time) {
        let judge = self.suspect_deadlines().any(|(at, _)| at <= now);
        let due = self.host.next_look.is_some_and(|at| at <= now);
        // A failed pass is repeated after its pause, not at once.
        let ready = self.host.error.is_none() || due;
        let reason = self.host.dirty || due || judge || self.orphans.are_due(now);
        if self.host.is_idle() && ready && reason {
            self.host.dirty = false;
            self.host.next_look = None;
            self.host.begun += 1;
            let op = self.cloud.next_op();
            let without = self.host.clearing.keys().cloned().collect();
            self.host.step = Step::Looking { op, without };
            self.out.push(Effect::ObserveHost { op });
        }
    }

    pub(crate) fn host_observed(&mut self, now: Time, op: OpId, result: Result<HostState, String>) {
        let without = match &self.host.step {
            Step::Looking { op: own, without } if *own == op => without.clone(),
            _ => return,
        };
        self.host.step = Step::Idle;
        let state = match result {
            Ok(state) => state,
            Err(error) => return self.host_failed(now, error),
        };
        self.host.looked_at = now;
        self.host.shown = self.host.begun;
        self.host.viewed = self.pool.enis().map(|eni| eni.facts.id.clone()).collect();
        self.judge_orphans(now, &state);
        self.note_pods(&state);
        // A DEL or ADD since the look changes who is podless; what is held now is never removed.
        let podless: BTreeSet<Ipv4Addr> =
            self.podless.iter().copied().filter(|address| !self.holds(*address)).collect();
        let Some(view) = self.view(&without, &podless) else {
            return self.host_failed(now, "the primary ENI is not known".to_owned());
        };
        let wanted = match desired(&view, &state) {
            Ok(wanted) => wanted,
            Err(error) => return self.host_failed(now, error.to_string()),
        };
        let missing: BTreeSet<Mac> = wanted.missing.iter().copied().collect();
        let ops = plan(&wanted, &state);
        if ops.is_empty() {
            return self.host_is_right(now, &without, missing, &podless);
        }
        if self.host.set {
            self.say(Notice::HostRepaired { subjects: ops.iter().map(vpc_hostnet::HostOp::subject).collect() });
        }
        let op = self.cloud.next_op();
        self.host.step = Step::Changing { op, without, missing, podless };
        self.out.push(Effect::ApplyHost { op, ops });
    }

    pub(crate) fn host_applied(&mut self, now: Time, op: OpId, result: Result<(), String>) {
        let (without, missing, podless) = match &self.host.step {
            Step::Changing { op: own, without, missing, podless } if *own == op => {
                (without.clone(), missing.clone(), podless.clone())
            }
            _ => return,
        };
        self.host.step = Step::Idle;
        match result {
            Ok(()) => self.host_is_right(now, &without, missing, &podless),
            Err(error) => self.host_failed(now, error),
        }
    }

    /// Whether the host was seen to route a pod's address that is on the ENI.
    pub(crate) fn host_uses(&self, eni: &EniId) -> bool {
        let slots: Vec<Slot> = self.pool.eni(eni).map(|eni| eni.positions().collect()).unwrap_or_default();
        self.host.uses_any_of(&slots)
    }

    fn host_is_right(
        &mut self,
        now: Time,
        without: &BTreeSet<EniId>,
        missing: BTreeSet<Mac>,
        podless: &BTreeSet<Ipv4Addr>,
    ) {
        self.host.set = true;
        self.host.error = None;
        self.host.failures = 0;
        for address in podless {
            self.podless.remove(address);
        }
        for eni in without {
            self.host.clearing.insert(eni.clone(), true);
        }
        self.host.clearing.retain(|eni, _| self.cloud.back.leaving.contains_key(eni));
        let up: Vec<(EniId, Mac)> = self
            .pool
            .enis()
            .filter(|eni| eni.usage == EniUse::SettingUp && !missing.contains(&eni.facts.mac))
            .filter(|eni| !without.contains(&eni.facts.id) && self.in_last_view(&eni.facts.id))
            .map(|eni| (eni.facts.id.clone(), eni.facts.mac))
            .collect();
        for (eni, mac) in up {
            if self.pool.set_use(&eni, EniUse::Ready).is_ok() {
                self.say(Notice::EniReady { eni, mac });
            }
        }
        let wait = if missing.is_empty() { self.config.audit_every } else { Self::LINK_POLL };
        self.host.missing = missing;
        self.host.next_look = Some(now + wait);
        self.serve_waiters(now);
        self.plan_pool(now);
    }

    /// Whether the pass that has just ended knew the ENI: one that came while it ran makes the host dirty again.
    fn in_last_view(&self, eni: &EniId) -> bool {
        self.host.viewed.contains(eni)
    }

    fn host_failed(&mut self, now: Time, error: String) {
        let pause = Self::RETRY.0.saturating_mul(1 << self.host.failures.min(7));
        self.host.failures += 1;
        self.host.next_look = Some(now + Millis(pause));
        self.host.dirty = true;
        self.host.error = Some(error.clone());
        self.say(Notice::HostFailed { error });
    }

    /// What the host should serve. A leaving ENI belongs to it until EC2 has agreed; a doubtful one as long as no other is in its place.
    fn view(&self, without: &BTreeSet<EniId>, podless: &BTreeSet<Ipv4Addr>) -> Option<HostView> {
        let eni = |eni: &vpc_ipam::PoolEni| EniOnHost {
            mac: eni.facts.mac,
            card: eni.facts.card,
            device: eni.facts.device,
            primary_address: eni.facts.primary,
            subnet: eni.facts.subnet,
        };
        let pod = |held: &Held| PodOnHost {
            address: held.allocation.address,
            table: held.allocation.table,
            host_link: host_veth(&self.config.host.veth_prefix, &held.pod),
            pod_mac: None,
            owner: Some(LinkAlias::of(&held.key, &held.pod)),
        };
        let named = |held: &&Held| !held.pod.name.is_empty();
        // The rule of a leaving ENI's own address goes before the ENI does.
        let leaving = without.iter().filter_map(|id| self.pool.eni(id)).map(|eni| eni.facts.primary);
        let displaced = |eni: &vpc_ipam::PoolEni| {
            eni.usage == EniUse::Doubtful && self.in_place_of(&eni.facts).any(|other| other.usage != EniUse::Doubtful)
        };
        let leaving = leaving.chain(self.pool.enis().filter(|eni| displaced(eni)).map(|eni| eni.facts.primary));
        let here = || self.pool.enis().filter(|eni| !without.contains(&eni.facts.id) && !displaced(eni));
        Some(HostView {
            primary: here().find(|eni| eni.facts.is_primary()).map(eni)?,
            secondary: here().filter(|eni| !eni.facts.is_primary()).map(eni).collect(),
            vpc_cidrs: self.vpc_cidrs.clone(),
            pods: self.pool.held().filter(named).map(pod).collect(),
            released: podless.iter().copied().chain(leaving).collect(),
            settings: self.config.host.clone(),
        })
    }

    fn note_pods(&mut self, state: &HostState) {
        let rules = state.rules.iter().filter_map(|rule| match rule.priority {
            priority::TO_POD => rule.to,
            priority::FROM_POD => rule.from,
            _ => None,
        });
        self.host.pods_seen = rules.map(|net| net.addr()).collect();
    }
}
