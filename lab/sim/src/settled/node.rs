//! A node's rules and load, from the settings it was given and from what EC2 has: the agent is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lab_cloud::{EniSnapshot, InstanceSnapshot, Snapshot, SubnetSpec, WorldSpec};
use vpc_agent::{ClusterNews, Config, EniConfig, NodeView, name_of_eni_config};
use vpc_ipam::{Allocation, Unit, WarmTarget};
use vpc_model::{DeviceIndex, InstanceId, PodRef, SubnetId};

use super::{EniLoad, Load, Room, Rules, Standing, unsettled};
use crate::audit::{Fault, made_for};
use crate::kubelet::{PodState, pod_ref};
use crate::node::Node;
use crate::world::{NodeAt, World};

/// What Kubernetes has told the daemon in its present life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    node: Option<NodeView>,
    eni_configs: Option<Vec<EniConfig>>,
    bound: Vec<PodRef>,
}

impl Told {
    pub(crate) fn hear(&mut self, news: &ClusterNews) {
        match news {
            ClusterNews::Node(view) => self.node = Some(view.clone()),
            ClusterNews::EniConfigs(configs) => self.eni_configs = Some(configs.clone()),
            ClusterNews::Pods(pods) => self.bound.clone_from(pods),
            ClusterNews::Reachable(_) | ClusterNews::Nodes(_) => {}
        }
    }
}

/// EC2 at one moment, looked at once for all nodes.
#[derive(Clone, Debug)]
pub struct Survey {
    snapshot: Snapshot,
    rooms: BTreeMap<SubnetId, Room>,
}

impl World {
    /// What EC2 has now.
    pub fn survey(&mut self) -> Survey {
        let snapshot = self.cloud.snapshot(self.now);
        let rooms = snapshot.subnets.iter().map(|subnet| {
            let prefixes = self.cloud.free_prefixes(&subnet.id);
            (subnet.id.clone(), Room { addresses: subnet.free, prefixes })
        });
        let rooms = rooms.collect();
        Survey { snapshot, rooms }
    }

    /// What a node should not have kept, or should have fetched, now that all is quiet: no pod has come or gone and nothing has been
    /// refused for a cool-down, the least age of an ENI and the longest pause after a refusal together. Says nothing of nodes whose daemon
    /// does not run, or whose pods are just coming or going.
    #[must_use]
    pub fn settled_faults(&mut self, node: NodeAt) -> Vec<Fault> {
        let survey = self.survey();
        self.settled_faults_in(&survey, node)
    }

    /// The same, of many nodes at one moment.
    #[must_use]
    pub fn settled_faults_in(&self, survey: &Survey, node: NodeAt) -> Vec<Fault> {
        let Some((rules, load)) = self.rules_and_load(survey, node) else { return Vec::new() };
        let found = unsettled(&rules, &load);
        // Who takes the tags off an ENI tells nobody: the daemon reads them when it next asks EC2, and may have no reason to.
        let unread =
            || self.judged(survey, node, Tags::AsMade).is_some_and(|(rules, load)| unsettled(&rules, &load).is_empty());
        if found.is_empty() || unread() {
            return Vec::new();
        }
        found.into_iter().map(|what| Fault::Unsettled { node, what }).collect()
    }

    /// What a node was told and what it has; `None` where that is not known or just changing.
    #[must_use]
    pub fn rules_and_load(&self, survey: &Survey, node: NodeAt) -> Option<(Rules, Load)> {
        self.judged(survey, node, Tags::AsTheyAre)
    }

    fn judged(&self, survey: &Survey, node: NodeAt, tags: Tags) -> Option<(Rules, Load)> {
        let own = self.nodes.get(node.0).filter(|own| own.agent.is_some())?;
        let instance = survey.snapshot.instances.iter().find(|known| known.id == own.instance)?;
        let place = Place::of(own, self.cloud.spec(), instance)?;
        let (given, waiting) = pods_of(own)?;
        Some((rules(own, instance, &place, survey), load(own, survey, &place, &given, waiting, tags)))
    }
}

/// What a node's pods were given, and how many wait for one; `None` while pods are coming or going.
fn pods_of(own: &Node) -> Option<(Vec<Allocation>, u32)> {
    let (mut given, mut waiting) = (Vec::new(), 0);
    for pod in own.pods.values() {
        match &pod.state {
            PodState::Running { reply, .. } => given.push(reply.allocation),
            PodState::Waiting | PodState::Asking { .. } => waiting += 1,
            PodState::Wiring { .. } | PodState::Ending { .. } => return None,
        }
    }
    Some((given, waiting))
}

fn rules(own: &Node, instance: &InstanceSnapshot, place: &Place<'_>, survey: &Survey) -> Rules {
    let Config { target, cloud, .. } = &own.config;
    let view = own.told.node.as_ref();
    let takes_pods = own.config.manage_non_schedulable || !view.is_some_and(|view| view.unschedulable);
    let new_eni = place
        .open
        .iter()
        .max_by_key(|id| survey.room(id).addresses)
        .cloned()
        .unwrap_or_else(|| instance.subnet.clone());
    Rules {
        unit: target.unit,
        warm: if takes_pods { target.warm } else { WarmTarget::Addresses { warm: 0, minimum: 0 } },
        max_enis: target.max_enis.min(instance.max_enis),
        slots_per_eni: target.slots_per_eni.min(instance.ipv4_per_eni.saturating_sub(1)),
        max_pods: view.and_then(|view| view.max_pods).or(target.max_pods),
        may_fetch: cloud.may_change(),
        may_fetch_ahead: cloud.may_change() && takes_pods,
        may_give_back: cloud.may_release() && takes_pods,
        new_eni: if place.open.is_empty() { Room::default() } else { survey.room(&new_eni) },
        new_eni_in: new_eni,
    }
}

fn load(own: &Node, survey: &Survey, place: &Place<'_>, given: &[Allocation], waiting: u32, tags: Tags) -> Load {
    let mut load = Load { waiting, ..Load::default() };
    let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
    let backed = |given: &Allocation| survey.enis_of(&own.instance).any(|(eni, _)| eni.addresses.holds(given.address));
    let elsewhere: Vec<&Allocation> = given.iter().filter(|given| !backed(given)).collect();
    let mut here = BTreeSet::new();
    for (eni, primary) in survey.enis_of(&own.instance) {
        let pods = |first: Ipv4Addr, last: Ipv4Addr| {
            given.iter().filter(|given| (first..=last).contains(&given.address)).count()
        };
        let singles = eni.addresses.secondary.iter().map(|at| (Unit::Address, count(pods(*at, *at))));
        let blocks = eni.addresses.prefixes.iter().map(|block| {
            let first = block.first();
            (Unit::Prefix, count(pods(first, Ipv4Addr::from_bits(first.to_bits() | 15))))
        });
        let positions: Vec<(Unit, u32)> = singles.chain(blocks).collect();
        let standing = if is_ours(eni, primary, own, tags) { place.standing(eni, primary) } else { Standing::Foreign };
        let stays = primary || eni.interface_type != "interface";
        let device = eni.attachment.as_ref().map(|tie| tie.device);
        let robbed = count(elsewhere.iter().filter(|given| Some(given.device) == device).count());
        here.extend(device);
        let (subnet, room) = (eni.subnet.clone(), survey.room(&eni.subnet));
        load.enis.push(EniLoad { stays, standing, positions, robbed, subnet, room });
    }
    let lost: BTreeSet<DeviceIndex> =
        elsewhere.iter().map(|given| given.device).filter(|device| !here.contains(device)).collect();
    load.lost_enis = count(lost.len());
    load.pods_elsewhere = count(elsewhere.len());
    let there = |pod: &&PodRef| own.pods.keys().any(|name| pod_ref(name) == **pod);
    let bound = if own.config.look_ahead { own.told.bound.iter().filter(|pod| !there(pod)).count() } else { 0 };
    load.bound = count(bound);
    load
}

/// Which tags of the ENIs count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tags {
    /// Those they have.
    AsTheyAre,
    /// Those the node's daemon made them with, where somebody has taken all of them.
    AsMade,
}

/// The rules of the tags.
fn is_ours(eni: &EniSnapshot, primary: bool, own: &Node, tags: Tags) -> bool {
    if tags == Tags::AsMade && eni.tags.is_empty() && made_for(eni, own) {
        return true;
    }
    let tag = |key: &str| eni.tags.get(&format!("node.k8s.amazonaws.com/{key}")).map(String::as_str);
    let carries_pods = matches!(eni.interface_type.as_str(), "interface" | "efa");
    primary
        || (carries_pods
            && match (tag("no_manage"), tag("instance_id")) {
                (Some(value), _) => value != "true",
                (None, Some(owner)) if owner == own.instance.as_str() => true,
                (None, _) => own.config.manage_untagged,
            })
}

impl Survey {
    fn room(&self, subnet: &SubnetId) -> Room {
        self.rooms.get(subnet).copied().unwrap_or_default()
    }

    /// ENIs on an instance's first card, and whether it is the primary one.
    fn enis_of(&self, instance: &InstanceId) -> impl Iterator<Item = (&EniSnapshot, bool)> {
        self.snapshot.enis.iter().filter_map(move |eni| {
            let tie = eni.attachment.as_ref().filter(|tie| tie.instance == *instance && tie.card.0 == 0)?;
            Some((eni, tie.device.0 == 0))
        })
    }
}

/// Which subnets a node's ENIs may be made in, and which keep pods out.
struct Place<'a> {
    /// New ENIs are made in one of these.
    open: Vec<SubnetId>,
    /// Custom networking: the only one pods go to, and not by the primary ENI.
    custom: Option<SubnetId>,
    /// Pods are kept out.
    excluded: Vec<&'a SubnetId>,
}

impl<'a> Place<'a> {
    /// `None`: the node's ENIConfig is not known or wrong, and what was right before it holds.
    fn of(own: &Node, spec: &'a WorldSpec, instance: &InstanceSnapshot) -> Option<Self> {
        let placing = &own.config.placing;
        if let Some(keys) = &placing.custom {
            let (name, _) = name_of_eni_config(own.told.node.as_ref()?, keys);
            let config = own.told.eni_configs.as_ref()?.iter().find(|config| config.name == name)?;
            let subnet = spec.subnets.iter().find(|subnet| subnet.id.as_str() == config.subnet)?;
            let known = |id: &String| spec.security_groups.iter().any(|group| group.id.as_str() == id);
            let right = subnet.zone == instance.zone && config.security_groups.iter().all(known);
            return right.then(|| Self {
                open: vec![subnet.id.clone()],
                custom: Some(subnet.id.clone()),
                excluded: Vec::new(),
            });
        }
        let in_zone = |subnet: &&SubnetSpec| subnet.zone == instance.zone;
        let home = |subnet: &SubnetSpec| subnet.id == instance.subnet;
        let opens = |subnet: &&SubnetSpec| match tag_of(subnet) {
            Some("0") => false,
            None => home(subnet),
            Some(_) => (placing.discovery || home(subnet)) && for_cluster(subnet, placing.cluster.as_deref()),
        };
        let shut = |subnet: &&SubnetSpec| match tag_of(subnet) {
            Some("0") => true,
            None => false,
            Some(_) => !for_cluster(subnet, placing.cluster.as_deref()),
        };
        let open = spec.subnets.iter().filter(in_zone).filter(opens).map(|subnet| subnet.id.clone()).collect();
        let shut = spec.subnets.iter().filter(shut).filter(|_| placing.discovery).map(|subnet| &subnet.id).collect();
        Some(Self { open, custom: None, excluded: shut })
    }

    fn standing(&self, eni: &EniSnapshot, primary: bool) -> Standing {
        let keeps_pods_out = match &self.custom {
            Some(subnet) => primary || eni.subnet != *subnet,
            None => self.excluded.contains(&&eni.subnet),
        };
        if keeps_pods_out { Standing::Retired } else { Standing::Pods }
    }
}

fn tag_of(subnet: &SubnetSpec) -> Option<&str> {
    subnet.tags.get("kubernetes.io/role/cni").map(String::as_str).filter(|value| !value.is_empty())
}

fn for_cluster(subnet: &SubnetSpec, ours: Option<&str>) -> bool {
    let Some(ours) = ours.filter(|name| !name.is_empty()) else { return true };
    let mut named = subnet.tags.keys().filter_map(|key| key.strip_prefix("cni.networking.k8s.aws/cluster/")).peekable();
    named.peek().is_none() || named.any(|name| name == ours)
}
