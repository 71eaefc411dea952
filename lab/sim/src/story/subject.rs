//! What a fault is about.

use vpc_ipam::Violation;
use vpc_model::{SandboxKey, Slot};

use super::Thing;
use crate::audit::Fault;
use crate::kubelet::pod_name;
use crate::world::NodeAt;

impl Fault {
    /// Its node, and the pod, address or ENI it is about.
    pub(super) fn subject(&self) -> (Option<NodeAt>, Vec<Thing>) {
        let pod = |key: &SandboxKey| Thing::Pod(pod_name(key).to_owned());
        let slot = |address: &std::net::Ipv4Addr| Thing::Slot(Slot::Address(*address));
        match self {
            Self::Agent { node, fault } => (Some(*node), of_agent(fault)),
            Self::NotOnDisk { node, key, address }
            | Self::NotHere { node, key, address }
            | Self::Taken { node, key, address }
            | Self::Forgotten { node, key, address }
            | Self::Collected { node, key, address }
            | Self::Misremembered { node, key, has: address, .. }
            | Self::NotInEc2 { node, key, address }
            | Self::CutOff { node, key, address, .. } => (Some(*node), vec![pod(key), slot(address)]),
            Self::TwoOwners { address, first, second } => (None, vec![slot(address), pod(first), pod(second)]),
            Self::GivenBackResting { node, address, .. } => (Some(*node), vec![slot(address)]),
            Self::NotRested { address, key, .. } => (None, vec![slot(address), pod(key)]),
            Self::SecondAddress { node, key, first, second } => {
                (Some(*node), vec![pod(key), slot(first), slot(second)])
            }
            Self::Waits { node, key, .. } | Self::FalseCause { node, key, .. } => (Some(*node), vec![pod(key)]),
            Self::Unserved { node, pod, .. } => (Some(*node), vec![Thing::Pod(pod.clone())]),
            Self::Leaked { node, .. }
            | Self::AskedTwice { node, .. }
            | Self::Abandoned { node, .. }
            | Self::ThrownAway { node, .. }
            | Self::OverBudget { node, .. }
            | Self::Host { node, .. }
            | Self::OddAnswer { node, .. }
            | Self::ReadyTwice { node }
            | Self::Unsettled { node, .. }
            | Self::NotSteady { node, .. } => (Some(*node), Vec::new()),
            Self::Stuck { .. } => (None, Vec::new()),
        }
    }
}

fn of_agent(fault: &vpc_agent::Fault) -> Vec<Thing> {
    let pod = |key: &SandboxKey| Thing::Pod(pod_name(key).to_owned());
    let slot = |address: &std::net::Ipv4Addr| Thing::Slot(Slot::Address(*address));
    match fault {
        vpc_agent::Fault::Pool(violation) => match violation {
            Violation::Owner { key, address } => vec![pod(key), slot(address)],
            Violation::SlotTwice { slot, first, second } => {
                vec![Thing::Slot(*slot), Thing::Eni(first.clone()), Thing::Eni(second.clone())]
            }
            Violation::PrimaryGiven { address, eni } => vec![slot(address), Thing::Eni(eni.clone())],
            Violation::Counts(eni) => vec![Thing::Eni(eni.clone())],
            Violation::Rests => Vec::new(),
        },
        vpc_agent::Fault::Overdue { key, .. } => vec![pod(key)],
        vpc_agent::Fault::Hollow { address, .. } | vpc_agent::Fault::Podless { address } => vec![slot(address)],
    }
}
