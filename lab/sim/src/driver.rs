//! Lets a history happen: first trouble, then calm.
//!
//! ```text
//!   acts, each at its time ──> calm: every fault is lifted, every daemon runs, nothing new comes ──> quiet ──> is anything left over?
//! ```
//!
//! Safety is looked at all the time, liveness at the end: that everybody who waits is served, that nothing is left over, that
//! the node holds what it should and asks EC2 for nothing more.

use std::collections::BTreeMap;

use lab_cloud::{CloudFault, FaultId, id_for};
use vpc_agent::{EniConfig, Input, NodeView};
use vpc_model::{Millis, SecurityGroupId, SubnetId, Time};

use crate::audit::Fault;
use crate::coverage::Coverage;
use crate::history::{Act, Blind, History, HistoryError, Timed};
use crate::story::Weight;
use crate::world::{NodeAt, World};

/// Until everything has rested, been given back and been forgotten: the longest pauses after failures, and some audits.
const QUIET: Millis = Millis::seconds(1_800);
/// And how long nothing may change after that.
const STEADY: Millis = Millis::seconds(900);
/// A daemon that is asked to end has so long.
const GRACE: Millis = Millis::seconds(5);

/// What came of a history.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Inputs that agents got, besides bare ticks.
    pub steps: u64,
    /// When it ended.
    pub end: Time,
    /// What was wrong first.
    pub wrong: Option<Wrong>,
    /// Requests to EC2.
    pub calls: u64,
    /// Which inputs came in which situations.
    pub coverage: Coverage,
}

/// Something wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// When it was found.
    pub at: Time,
    /// How many steps had been made.
    pub step: u64,
    /// What.
    pub fault: Fault,
}

/// Lets a history happen, up to the first fault.
///
/// # Errors
/// Its world can not be.
pub fn run(history: &History) -> Result<Report, HistoryError> {
    let mut driver = Driver::new(history)?;
    driver.through(history);
    Ok(driver.report())
}

/// A history under way.
pub struct Driver {
    /// Its world.
    pub world: World,
    /// What ends at a time of its own.
    ends: BTreeMap<(Time, u64), End>,
    numbers: u64,
}

/// Something that does not last.
#[derive(Clone, Copy, Debug)]
enum End {
    Fault(FaultId),
    Disk(NodeAt),
    Host(NodeAt),
    /// The daemon was asked to end.
    Life {
        node: NodeAt,
        away: Millis,
    },
}

impl Driver {
    /// The world of a history, with its daemons about to start.
    ///
    /// # Errors
    /// The world can not be.
    pub fn new(history: &History) -> Result<Self, HistoryError> {
        let mut world = history.world()?;
        for (index, plan) in history.nodes.iter().enumerate() {
            let node = NodeAt(index);
            world.start_later(node, Millis(plan.start_ms));
            world.news(node, |kube| {
                kube.answers = true;
                kube.node = Some(NodeView { max_pods: plan.settings.max_pods, ..NodeView::default() });
                kube.eni_configs = plan.settings.custom_networking.then(eni_configs);
            });
        }
        Ok(Self { world, ends: BTreeMap::new(), numbers: 0 })
    }

    /// Everything, up to the first fault.
    pub fn through(&mut self, history: &History) {
        for timed in &history.acts {
            if !self.until(Time(timed.at_ms)) {
                return;
            }
            self.act(timed);
        }
        if self.until(Time(history.calm_ms)) {
            self.world.look();
            let overspent = self.world.overspent();
            self.world.faults.extend(overspent);
            self.calm(history);
        }
    }

    /// What has come of it so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let world = &self.world;
        let wrong =
            world.faults.first().map(|fault| Wrong { at: world.now(), step: world.steps, fault: fault.clone() });
        let coverage = world.coverage.clone();
        Report { steps: world.steps, end: world.now(), wrong, calls: world.sent.len() as u64, coverage }
    }

    /// Lets time pass; false once something is wrong.
    pub fn until(&mut self, at: Time) -> bool {
        while let Some((&(due, number), &end)) = self.ends.first_key_value().filter(|((due, _), _)| *due <= at) {
            if !self.pass(due) {
                return false;
            }
            self.ends.remove(&(due, number));
            self.end(end);
        }
        self.pass(at)
    }

    fn pass(&mut self, at: Time) -> bool {
        let span = at.since(self.world.now());
        let now = self.world.now();
        self.world.run_until(now + span, |world| !world.faults.is_empty());
        self.world.faults.is_empty() && {
            self.world.idle_until(at);
            true
        }
    }

    fn ends_after(&mut self, for_ms: u64, end: End) {
        self.numbers += 1;
        self.ends.insert((self.world.now() + Millis(for_ms), self.numbers), end);
    }

    fn end(&mut self, end: End) {
        if matches!(end, End::Fault(_)) {
            self.world.may_notice_now();
        }
        let (node, words) = match end {
            End::Fault(_) => (None, "what was wrong with EC2 or IMDS is over"),
            End::Disk(node) => (Some(node), "the disk takes things again"),
            End::Host(node) => (Some(node), "the host's network can be changed again"),
            End::Life { node, .. } => (Some(node), "the time to end is over"),
        };
        self.world.note(node, Weight::Turn, || (Vec::new(), words.to_owned()));
        match end {
            End::Fault(id) => drop(self.world.cloud.lift(self.world.now(), id)),
            End::Disk(node) => self.disk_full(node, false),
            End::Host(node) => self.host_fails(node, None),
            End::Life { node, away } => self.world.restart(node, away),
        }
    }

    fn disk_full(&mut self, node: NodeAt, is: bool) {
        if let Some(own) = self.world.node_mut(node) {
            own.disk_full = is;
        }
    }

    fn host_fails(&mut self, node: NodeAt, is: Option<Blind>) {
        if let Some(own) = self.world.node_mut(node) {
            own.host_fails = is;
        }
    }

    // -- acts ----------------------------------------------------------------------------------------------------------

    /// One act, now.
    pub fn act(&mut self, timed: &Timed) {
        self.world.note_act(&timed.act);
        match &timed.act {
            Act::Add { node, pod } => self.world.add_pod(*node, pod),
            Act::Delete { node, pod } => self.world.delete_pod(*node, pod),
            Act::LoseSandbox { node, pod } => self.world.lose_sandbox(*node, pod),
            Act::AddAgain { node, pod } => self.world.add_again(*node, pod),
            Act::DeleteOld { node, pod } => self.world.delete_old(*node, pod),
            Act::DeleteGone { node, pick } => self.world.delete_gone(*node, *pick),
            Act::Collect { node, late_ms } => self.world.collect(*node, Millis(*late_ms)),
            Act::Inquire { node, pod } => self.world.inquire(*node, pod),
            Act::FailWiring { node, times } => self.world.fail_wiring(*node, *times),
            Act::Kill { node, after, when, away_ms } => self.world.doom(*node, *after, *when, Millis(*away_ms)),
            Act::Terminate { node, away_ms } => {
                self.world.tell(*node, Input::Terminate);
                self.ends_after(GRACE.0, End::Life { node: *node, away: Millis(*away_ms) });
            }
            Act::Reboot { node } => self.world.reboot(*node),
            Act::Clock { by_ms } => self.world.jump(*by_ms),
            Act::Fault { fault, for_ms } => self.fault(fault, *for_ms),
            Act::Outside { node, what, pick } => self.world.outsider(*node, *what, *pick),
            Act::Settings { node, settings } => {
                let kind = self.world.node(*node).map(|own| own.instance_type.clone()).unwrap_or_default();
                self.world.set(*node, |config| settings.apply(&kind, config));
                if settings.custom_networking {
                    self.world.news(*node, |kube| kube.eni_configs = Some(eni_configs()));
                }
            }
            Act::Api { answers } => self.api_answers(*answers),
            Act::NodeObject { node, unschedulable, max_pods } => self.world.news(*node, |kube| {
                let view = kube.node.get_or_insert_default();
                (view.unschedulable, view.max_pods) = (*unschedulable, *max_pods);
            }),
            Act::DiskFull { node, for_ms } => {
                self.disk_full(*node, true);
                self.ends_after(*for_ms, End::Disk(*node));
            }
            Act::DiskLost { node } => {
                let now = self.world.now();
                if let Some(own) = self.world.node_mut(*node) {
                    own.lose_disk(now);
                }
            }
            Act::HostFails { node, how, for_ms } => {
                self.host_fails(*node, Some(*how));
                self.ends_after(*for_ms, End::Host(*node));
            }
            Act::RulesLost { node, every } => self.world.lose_rules(*node, *every),
        }
    }

    fn fault(&mut self, fault: &CloudFault, for_ms: u64) {
        // A fault of something that this world does not have does nothing.
        if let Ok(id) = self.world.cloud.inject(self.world.now(), fault.clone()) {
            self.ends_after(for_ms, End::Fault(id));
        }
    }

    fn api_answers(&mut self, answers: bool) {
        for index in 0..self.world.nodes().len() {
            self.world.news(NodeAt(index), |kube| kube.answers = answers);
        }
    }

    // -- calm ----------------------------------------------------------------------------------------------------------

    /// All is well again, nothing new comes. Then everything must come to rest.
    pub fn calm(&mut self, history: &History) {
        self.world.note(None, Weight::Turn, || (Vec::new(), "calm: all is well again, nothing new comes".to_owned()));
        self.world.is_calm = true;
        for (_, end) in std::mem::take(&mut self.ends) {
            self.end(end);
        }
        self.api_answers(true);
        for index in 0..history.nodes.len() {
            self.world.undoom(NodeAt(index));
        }
        let quiet = self.world.now() + QUIET;
        if !self.until(quiet) {
            return;
        }
        self.world.look();
        let mut wrong = self.world.leaks();
        wrong.extend(self.world.unserved());
        wrong.extend(self.world.overspent());
        let survey = self.world.survey();
        wrong.extend((0..history.nodes.len()).flat_map(|index| self.world.settled_faults_in(&survey, NodeAt(index))));
        self.world.faults.extend(wrong);
        let since = self.world.now();
        if !self.until(since + STEADY) {
            return;
        }
        for index in 0..history.nodes.len() {
            let node = NodeAt(index);
            let restless = self.world.not_steady(node, since);
            self.world.faults.extend(restless);
        }
    }
}

/// ENIs of custom networking are in the zone's pod subnet.
fn eni_configs() -> Vec<EniConfig> {
    let (subnet, group): (SubnetId, SecurityGroupId) = (id_for("pods-a"), id_for("nodes"));
    let security_groups = vec![group.to_string()];
    vec![EniConfig { name: "default".to_owned(), subnet: subnet.to_string(), security_groups }]
}
