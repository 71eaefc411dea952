//! The faults of a lab: begun, counted, lifted.
//!
//! ```text
//!   Fault::Cloud -> the model keeps it and counts its calls
//!   Fault::Node  -> here: what undoes it is kept with it       cuts.rs, hold.rs, kernel.rs
//!   Fault::Event -> happens in the model, once                  events.rs
//! ```
//!
//! All of them are numbered in one row, and each beginning and end is a line among the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab_cloud::{CloudFault, FaultId};
use lab_kube::Denial;

use super::hold::Hold;
use super::kernel::{self, Restore};
use super::node::Node;
use super::run::Supervisor;
use crate::control::Failure;
use crate::fault::{Endpoint, Fault, FaultReport, FaultState, NodeFault};

/// The resolver's address that is the same in every VPC; the other one is the VPC's third.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// Faults that are over are remembered up to this number.
const REMEMBERED: usize = 200;

/// All faults since the lab started, by number.
#[derive(Debug, Default)]
pub(super) struct FaultBook(Mutex<BTreeMap<u64, Entry>>);

#[derive(Debug)]
struct Entry {
    report: FaultReport,
    undo: Undo,
}

/// How a fault ends.
#[derive(Debug)]
enum Undo {
    /// It has ended, or there is nothing to undo.
    Nothing,
    /// It is being made.
    Beginning,
    Cloud,
    Cut,
    Hold(Hold),
    Power(Arc<Node>),
    Kernel(Arc<Node>, Restore),
    ApiAway,
    ApiDeny(Denial),
}

/// What a fault has done at its beginning.
struct Begun {
    undo: Undo,
    /// Things it has touched, where that can be counted already.
    hits: Option<u64>,
    note: Option<String>,
}

impl Begun {
    fn lasting(undo: Undo) -> Self {
        Self { undo, hits: None, note: None }
    }

    fn once(note: impl Into<String>) -> Self {
        Self { undo: Undo::Nothing, hits: None, note: Some(note.into()) }
    }
}

impl FaultBook {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault is about to begin. Two that stop and start the same daemon would undo each other's work.
    fn announce(&self, report: &FaultReport) -> Result<(), Failure> {
        let holds = |report: &FaultReport| match &report.fault {
            Fault::Node(NodeFault::Stop { node } | NodeFault::Starve { node, .. })
                if report.state == FaultState::Active =>
            {
                Some(node.clone())
            }
            _ => None,
        };
        let mut entries = self.entries();
        let node = holds(report);
        match entries.values().find(|other| node.is_some() && holds(&other.report) == node) {
            Some(Entry { report, .. }) => Err(Failure::other(format!(
                "fault {0} ({1}) holds that daemon already: `vpc-lab fault lift {0}` lets it go",
                report.id, report.fault
            ))),
            None => {
                entries.insert(report.id, Entry { report: report.clone(), undo: Undo::Beginning });
                Ok(())
            }
        }
    }

    fn put(&self, id: u64, entry: Entry) {
        let mut entries = self.entries();
        entries.insert(id, entry);
        let over: Vec<_> =
            entries.iter().filter(|(_, e)| e.report.state != FaultState::Active).map(|(id, _)| *id).collect();
        for id in over.iter().take(over.len().saturating_sub(REMEMBERED)) {
            entries.remove(id);
        }
    }

    /// The cuts that hold: number, node, from what, how.
    fn cuts(&self) -> Vec<(u64, NodeFault)> {
        let entries = self.entries();
        let holds = entries.iter().filter(|(_, entry)| matches!(entry.undo, Undo::Cut));
        holds
            .filter_map(|(id, entry)| match &entry.report.fault {
                Fault::Node(fault @ NodeFault::Cut { .. }) => Some((*id, fault.clone())),
                _ => None,
            })
            .collect()
    }
}

impl Supervisor {
    /// Begins a fault; it is lifted after `lasts`, if that is given.
    pub(super) fn begin_fault(self: &Arc<Self>, fault: Fault, lasts: Option<Duration>) -> Result<FaultReport, Failure> {
        if fault.happens_once() && lasts.is_some() {
            let name = fault.kind();
            return Err(Failure::other(format!("{name} happens once: there is nothing to lift after a while")));
        }
        let since_ms = self.cloud.now().0;
        let id = match &fault {
            Fault::Cloud(fault) => self.runtime.block_on(self.cloud.inject(fault.clone())).map_err(Failure::other)?,
            Fault::Node(_) | Fault::Event(_) => self.cloud.reserve_fault(),
        };
        let mut report = FaultReport {
            id: id.0,
            fault,
            state: FaultState::Active,
            since_ms,
            until_ms: None,
            hits: None,
            note: None,
        };
        self.faults.announce(&report)?;
        let begun = match &report.fault {
            Fault::Cloud(_) => Ok(Begun::lasting(Undo::Cloud)),
            Fault::Node(fault) => self.begin_node_fault(fault),
            Fault::Event(event) => self.cloud_event(event).map(Begun::once),
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(e) => {
                self.faults.entries().remove(&id.0);
                return Err(e);
            }
        };
        (report.hits, report.note) = (begun.hits, begun.note);
        if report.fault.happens_once() {
            report.state = FaultState::Happened;
        }
        let is_cut = matches!(begun.undo, Undo::Cut);
        self.faults.put(id.0, Entry { report: report.clone(), undo: begun.undo });
        if is_cut && let Err(e) = self.renew_cuts() {
            self.faults.entries().remove(&id.0);
            return Err(e);
        }
        self.note_fault(&report);
        if let Some(lasts) = lasts {
            let own = Arc::clone(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(lasts).await;
                // Somebody may have lifted it before.
                tokio::task::spawn_blocking(move || own.lift_fault(id.0).ok());
            });
        }
        Ok(report)
    }

    /// Whether there is what a fault is about, as far as that has a name.
    pub(super) fn check_fault(&self, fault: &Fault) -> Result<(), Failure> {
        // What the cloud does wrong, it may do to all nodes.
        let every = |node: &str| node == "*" && matches!(fault, Fault::Cloud(_));
        if let Some(node) = fault.node().filter(|node| !every(node)) {
            self.named(&node)?;
        }
        let Fault::Cloud(CloudFault::SubnetExhausted { subnet, .. } | CloudFault::SubnetFragmented { subnet, .. }) =
            fault
        else {
            return Ok(());
        };
        let subnets = self.cloud.snapshot().subnets;
        if subnets.iter().any(|known| known.name == *subnet || known.id.as_str() == subnet) {
            return Ok(());
        }
        let known = subnets
            .iter()
            .map(|known| known.name.as_str())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(", ");
        Err(Failure::other(format!("there is no subnet `{subnet}`; there are: {known}")))
    }

    fn begin_node_fault(&self, fault: &NodeFault) -> Result<Begun, Failure> {
        match fault {
            NodeFault::Cut { node, from, .. } => {
                self.named(node)?;
                self.endpoint_addresses(*from)?;
                Ok(Begun::lasting(Undo::Cut))
            }
            NodeFault::Stop { node } => {
                let hold = Hold::still(self.named(node)?.daemon()?)?;
                Ok(Begun::lasting(Undo::Hold(hold)))
            }
            NodeFault::Starve { node, run_ms, stop_ms } => {
                let spans = [run_ms, stop_ms].map(|ms| Duration::from_millis(*ms));
                if spans.iter().any(Duration::is_zero) {
                    return Err(Failure::other("starve: run_ms and stop_ms: expected 1 or more"));
                }
                let hold = Hold::in_turn(self.named(node)?.daemon()?, spans)?;
                Ok(Begun::lasting(Undo::Hold(hold)))
            }
            NodeFault::Kill { node, restart_ms } => {
                self.named(node)?.kill_daemon(restart_ms.map(Duration::from_millis))?;
                Ok(Begun::once("killed"))
            }
            NodeFault::Reboot { node } => {
                self.named(node)?.view()?;
                self.power(node, false)?;
                Ok(Begun::once(match self.power(node, true) {
                    Ok(()) => "the node is ready again".to_owned(),
                    Err(e) => e.to_string(),
                }))
            }
            NodeFault::PowerCut { node } => {
                let own = self.named(node)?;
                own.view()?;
                self.power(node, false)?;
                Ok(Begun::lasting(Undo::Power(own)))
            }
            NodeFault::ApiAway => {
                if self.api.set_away(true) {
                    Ok(Begun::lasting(Undo::ApiAway))
                } else {
                    Err(no_api())
                }
            }
            NodeFault::ApiDeny { verb, resource, user } => {
                let denial = Denial { verb: verb.clone(), resource: resource.clone(), user: user.clone() };
                self.cluster.api().deny(denial.clone());
                Ok(Begun::lasting(Undo::ApiDeny(denial)))
            }
            NodeFault::KernelFlush { node, .. }
            | NodeFault::RuleDelete { node, .. }
            | NodeFault::RouteDelete { node, .. }
            | NodeFault::RouteReplace { node, .. }
            | NodeFault::LinkDown { node, .. }
            | NodeFault::Sysctl { node, .. } => {
                let node = self.named(node)?;
                let done = kernel::change(&node, fault)?;
                let undo = done.restore.map_or(Undo::Nothing, |restore| Undo::Kernel(node, restore));
                Ok(Begun { undo, hits: done.count, note: done.note })
            }
        }
    }

    /// Ends a fault.
    pub(super) fn lift_fault(&self, id: u64) -> Result<FaultReport, Failure> {
        let undo = {
            let mut entries = self.faults.entries();
            let active: Vec<_> = entries
                .iter()
                .filter(|(_, entry)| entry.report.state == FaultState::Active)
                .map(|(id, entry)| format!("{id} ({})", entry.report.fault.kind()))
                .collect();
            let entry = entries.get_mut(&id).filter(|entry| entry.report.state == FaultState::Active);
            let entry = entry.ok_or_else(|| {
                let active = if active.is_empty() { "none".to_owned() } else { active.join(", ") };
                Failure::other(format!("there is no fault {id} to lift; those that hold: {active}"))
            })?;
            if matches!(entry.undo, Undo::Beginning) {
                return Err(Failure::other(format!("fault {id} is only beginning: try again in a moment")));
            }
            let undo = std::mem::replace(&mut entry.undo, Undo::Nothing);
            hand_over(&mut entries, id, undo)
        };
        let hits = self.hits_of(id, &undo);
        let undone = self.undo(id, undo);
        let report = self.close(id, hits, undone.as_ref().err().map(ToString::to_string));
        undone?;
        report.ok_or_else(|| Failure::other(format!("there is no fault {id}")))
    }

    /// Lifts all that hold; those that could not be lifted do not keep the others.
    pub(super) fn lift_all_faults(&self) -> Result<Vec<FaultReport>, Failure> {
        let active: Vec<_> = self.active_faults().iter().map(|report| report.id).collect();
        let lifted: Vec<_> = active.into_iter().map(|id| self.lift_fault(id)).collect();
        lifted.into_iter().collect()
    }

    fn undo(&self, id: u64, undo: Undo) -> Result<(), Failure> {
        match undo {
            Undo::Nothing | Undo::Beginning => Ok(()),
            Undo::Cloud => self.runtime.block_on(self.cloud.lift(FaultId(id))).map_err(Failure::other),
            Undo::Cut => self.renew_cuts(),
            Undo::Hold(hold) => {
                hold.let_go();
                Ok(())
            }
            Undo::Power(node) => self.power(&node.spec.name, true),
            Undo::Kernel(node, restore) => restore.run(&node),
            Undo::ApiDeny(denial) => {
                self.cluster.api().allow(&denial);
                Ok(())
            }
            Undo::ApiAway => {
                if self.api.set_away(false) {
                    Ok(())
                } else {
                    Err(no_api())
                }
            }
        }
    }

    fn close(&self, id: u64, hits: Option<u64>, problem: Option<String>) -> Option<FaultReport> {
        let report = {
            let mut entries = self.faults.entries();
            let entry = entries.get_mut(&id)?;
            entry.report.state = FaultState::Lifted;
            entry.report.until_ms = Some(self.cloud.now().0);
            entry.report.hits = hits;
            entry.report.note = problem.or(entry.report.note.take());
            entry.report.clone()
        };
        self.note_fault(&report);
        Some(report)
    }

    /// A node is gone for ever: what was wrong with it is too.
    pub(super) fn faults_end_with(&self, node: &str) {
        let gone: Vec<_> = {
            let mut entries = self.faults.entries();
            let own = entries.iter_mut().filter(|(_, entry)| {
                entry.report.state == FaultState::Active
                    && matches!(entry.report.fault, Fault::Node(_))
                    && entry.report.fault.node().as_deref() == Some(node)
            });
            own.map(|(id, entry)| (*id, std::mem::replace(&mut entry.undo, Undo::Nothing))).collect()
        };
        for (id, undo) in gone {
            let hits = self.hits_of(id, &undo);
            if let Undo::Hold(hold) = undo {
                hold.let_go();
            }
            self.close(id, hits, Some("its node is gone".to_owned()));
        }
        self.renew_cuts().unwrap_or_else(|e| tracing::error!("cuts: {e}"));
    }

    /// All faults of this lab, oldest first.
    pub(super) fn fault_reports(&self) -> Vec<FaultReport> {
        let cloud: BTreeMap<_, _> = self.cloud.faults().into_iter().map(|fault| (fault.id.0, fault.hits)).collect();
        let cuts = self.cuts.hits();
        let entries = self.faults.entries();
        let shown = |(id, entry): (&u64, &Entry)| {
            let mut report = entry.report.clone();
            match &entry.undo {
                Undo::Cloud => report.hits = cloud.get(id).copied(),
                Undo::Cut => report.hits = Some(cuts.get(id).copied().unwrap_or(0)),
                Undo::Hold(hold) => report.hits = Some(hold.stops()),
                _ => {}
            }
            report
        };
        entries.iter().map(shown).collect()
    }

    fn active_faults(&self) -> Vec<FaultReport> {
        self.fault_reports().into_iter().filter(|report| report.state == FaultState::Active).collect()
    }

    fn hits_of(&self, id: u64, undo: &Undo) -> Option<u64> {
        match undo {
            Undo::Cloud => self.cloud.faults().iter().find(|fault| fault.id.0 == id).map(|fault| fault.hits),
            Undo::Cut => Some(self.cuts.hits().get(&id).copied().unwrap_or(0)),
            Undo::Hold(hold) => Some(hold.stops()),
            _ => self.faults.entries().get(&id).and_then(|entry| entry.report.hits),
        }
    }

    /// A line among the calls.
    fn note_fault(&self, report: &FaultReport) {
        let what = match report.state {
            FaultState::Active => "begins",
            FaultState::Lifted => "lifted",
            FaultState::Happened => "happens",
        };
        let hits = report.hits.map(|hits| format!("{hits} hits"));
        let outcome = [hits, report.note.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        self.cloud.note(
            &format!("fault {what}: {}", report.fault.kind()),
            report.fault.keys(),
            &outcome,
            vec![FaultId(report.id)],
        );
    }

    /// Cuts what is to be cut now: nodes have other ENIs than a moment ago, or a fault has begun or ended.
    pub(super) fn renew_cuts(&self) -> Result<(), Failure> {
        let mut cuts = Vec::new();
        for (id, fault) in self.faults.cuts() {
            let NodeFault::Cut { node, from, how } = fault else { continue };
            let Ok(node) = self.named(&node) else { continue };
            let own = node.enis();
            let ports = self.fabric.status().ports.into_iter().filter(|port| own.contains(&port.eni));
            let links = ports.filter_map(|port| port.link.parse().ok()).collect();
            cuts.push(super::cuts::Cut { fault: id, links, addresses: self.endpoint_addresses(from)?, how });
        }
        self.cuts.apply(&cuts).map_err(|e| Failure::other(format!("cut: {e}")))
    }

    /// A node has links that it did not have: what holds for the node holds for them too.
    pub(super) fn cuts_follow(&self) {
        if !self.faults.cuts().is_empty()
            && let Err(e) = self.renew_cuts()
        {
            tracing::error!("{e}");
        }
    }

    /// Where nodes find something the lab serves.
    fn endpoint_addresses(&self, from: Endpoint) -> Result<Vec<Ipv4Addr>, Failure> {
        let kube = self.api.address();
        let dns = || {
            let of_the_vpc = self.topology.cidrs.first().map(|cidr| Ipv4Addr::from_bits(cidr.network().to_bits() + 2));
            of_the_vpc.into_iter().chain([RESOLVER]).collect::<Vec<_>>()
        };
        match from {
            Endpoint::Ec2 => Ok(vec![crate::fabric::EC2_ADDRESS]),
            Endpoint::Imds => Ok(vec![crate::fabric::IMDS_ADDRESS]),
            Endpoint::Dns => Ok(dns()),
            Endpoint::Kube => kube.map(|address| vec![address]).ok_or_else(no_api),
            Endpoint::All => {
                let always = [crate::fabric::EC2_ADDRESS, crate::fabric::IMDS_ADDRESS];
                Ok(always.into_iter().chain(dns()).chain(kube).collect())
            }
        }
    }
}

/// What is still to be taken back when fault `id` is lifted while others hold the same thing: a link comes up with the last of
/// them, and the value that a switch had before all of them goes to the one that was turned next.
fn hand_over(entries: &mut BTreeMap<u64, Entry>, id: u64, undo: Undo) -> Undo {
    let Undo::Kernel(node, restore) = undo else { return undo };
    for (other, entry) in entries.iter_mut().filter(|(other, _)| **other != id) {
        let Undo::Kernel(place, held) = &mut entry.undo else { continue };
        if !Arc::ptr_eq(place, &node) {
            continue;
        }
        match (held, &restore) {
            (Restore::LinkUp(held), Restore::LinkUp(link)) if held == link => return Undo::Nothing,
            (Restore::Sysctl { key: held, value }, Restore::Sysctl { key, value: before })
                if held == key && *other > id =>
            {
                value.clone_from(before);
                return Undo::Nothing;
            }
            _ => {}
        }
    }
    Undo::Kernel(node, restore)
}

fn no_api() -> Failure {
    Failure::other("this lab serves no Kubernetes API")
}
