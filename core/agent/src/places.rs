//! Where new ENIs are made, and what the ENIs there are for.
//!
//! ```text
//!   settings, node, ENIConfigs, list of subnets, refusals --> choose(): subnet, groups, unit  |  why there is none
//!                                                         \-> role_of(): does this ENI get new pods?
//! ```
//!
//! Without custom networking every subnet of the VPC in the node's zone is looked at: tags say which may be used, the one with most
//! free addresses is first, one that EC2 refused is left alone for a growing while. With custom networking the node's ENIConfig
//! names the subnet. What was understood last holds: an ENIConfig that is gone or wrong stops new ENIs, and nothing else.
//!
//! The list of subnets is asked for at start and again when something must be fetched and the list is some minutes old; tags that
//! changed meanwhile are noticed then. Where no subnet gives anything it is asked for sooner, and ever more rarely as long as it shows
//! nothing new. If it can not be had, the primary ENI's subnet is used, and that is said once.

mod cause;
mod custom;
mod memory;

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{EniFacts, EniRole, Retired, Unit};
use vpc_model::{Millis, Prefix28, SecurityGroupId, Subnet, SubnetId, Time, VpcId};

use crate::cloud::{CloudCall, CloudFailure, FailureClass, Place, SubnetTruth};
use crate::cluster::{EniConfig, NodeView};
use crate::config::Placing;

pub use cause::{NamedBy, NoPlace, PlaceNews, Refused};
use custom::Good;
pub use custom::name_of_eni_config;
use memory::Memory;
pub(crate) use memory::pause_after;

/// Says whether a subnet may be used (`0` = no).
const ROLE_TAG: &str = "kubernetes.io/role/cni";
/// Followed by a cluster's name: the subnet is for that cluster.
const CLUSTER_TAG: &str = "cni.networking.k8s.aws/cluster/";

/// Where the node is: its primary ENI's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Subnet.
    pub subnet: SubnetId,
    /// That subnet's network, if the metadata show it.
    pub net: Option<Subnet>,
    /// VPC.
    pub vpc: VpcId,
    /// Availability zone.
    pub zone: String,
    /// Security groups.
    pub groups: Vec<SecurityGroupId>,
}

/// Where a new ENI is made, and in what it can grow there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Subnet and groups.
    pub place: Place,
    /// The subnet's network, if it is known.
    pub net: Option<Subnet>,
    /// What it can come with: prefixes were asked for and are not to be had there, or what was asked.
    pub unit: Unit,
}

/// What is known of places.
#[derive(Clone, Debug)]
pub struct Places {
    placing: Placing,
    home: Home,
    node: Option<NodeView>,
    eni_configs: Option<Vec<EniConfig>>,
    list: Option<List>,
    /// The list was asked for, with these besides the zone's; the answer is still to come.
    listing: Option<BTreeSet<SubnetId>>,
    list_failed: Option<ListFailed>,
    /// Before this a node that needs nothing does not ask for the list.
    first_look: Time,
    /// What lists of all nodes take.
    lap: Millis,
    /// Lists in a row that were asked for because no subnet had room, and showed nothing new.
    in_vain: u32,
    memory: Memory,
    /// The last ENIConfig that was found right.
    good: Option<Good>,
    /// What keeps new ENIs from being made, as it was last said.
    wrong: Option<NoPlace>,
    /// Subnets whose exclusion has been said.
    said_excluded: BTreeSet<SubnetId>,
    news: Vec<PlaceNews>,
}

#[derive(Clone, Debug)]
struct List {
    at: Time,
    /// In EC2's order.
    subnets: Vec<SubnetTruth>,
    /// Looked up besides the zone's.
    also: BTreeSet<SubnetId>,
}

#[derive(Clone, Debug)]
struct ListFailed {
    until: Time,
    class: FailureClass,
    streak: u32,
}

impl Places {
    /// How old the list of subnets may be when something is to be fetched.
    pub const LIST_AGE: Millis = Millis::seconds(300);
    /// The same while no subnet that is known has room. Doubled for each list in a row that shows nothing new, up to
    /// [`FailureClass::LONGEST`], or as long as all nodes' lists take: somebody has to tag a subnet or free addresses first.
    pub const THIRSTY_AGE: Millis = Millis::seconds(10);
    /// After a refusal for want of permission the list is asked for so much later, where nothing new is to be made.
    const DENIED: Millis = Millis::seconds(600);

    /// Begins with nothing known but home.
    #[must_use]
    pub fn new(placing: Placing, home: Home) -> Self {
        Self {
            placing,
            home,
            node: None,
            eni_configs: None,
            list: None,
            listing: None,
            list_failed: None,
            first_look: Time(0),
            lap: Millis(0),
            in_vain: 0,
            memory: Memory::default(),
            good: None,
            wrong: None,
            said_excluded: BTreeSet::new(),
            news: Vec::new(),
        }
    }

    /// A node that needs nothing looks at the subnets no sooner than this.
    pub fn first_look_at(&mut self, at: Time) {
        self.first_look = at;
    }

    /// What lists of all nodes take, one after the other, at half of EC2's rate. Lists that are asked for again and again, because they
    /// might show something new, come to be so far apart.
    pub fn lap_is(&mut self, lap: Millis) {
        self.lap = lap;
    }

    /// The settings have changed.
    pub fn settings(&mut self, placing: Placing) {
        if placing != self.placing {
            self.in_vain = 0;
        }
        self.placing = placing;
        self.look();
        self.look_at_tags();
    }

    /// The node object is this now.
    pub fn node(&mut self, node: NodeView) {
        self.node = Some(node);
        self.look();
    }

    /// All ENIConfigs are these now.
    pub fn eni_configs(&mut self, configs: Vec<EniConfig>) {
        self.eni_configs = Some(configs);
        self.look();
    }

    /// The primary ENI's security groups are these now.
    pub fn groups(&mut self, groups: Vec<SecurityGroupId>) {
        self.home.groups = groups;
    }

    /// What the primary ENI has.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The list to ask for now, if any; `growing` = something must be fetched. Whoever sends it tells the outcome
    /// ([`Self::listed`], [`Self::list_failed`]); until then it is not asked for again.
    pub fn wants_list(&mut self, now: Time, growing: bool) -> Option<CloudCall> {
        let paused = self.list_failed.as_ref().is_some_and(|failed| failed.until > now);
        if self.listing.is_some() || paused {
            return None;
        }
        let named = self.named_subnet();
        let lacking = named.as_ref().is_some_and(|id| self.subnet(id).is_none() && !self.memory.is_unknown(now, id));
        let needed = match &self.list {
            // After a refusal that does not pass by itself it is asked for again only when it is needed: seldom, where it is only to tell
            // what may be given back.
            None if self.list_failed.as_ref().is_some_and(|failed| failed.class == FailureClass::Unauthorized) => {
                let long_ago = self.list_failed.as_ref().is_some_and(|failed| failed.until + Self::DENIED <= now);
                growing || (long_ago && !self.is_settled())
            }
            None => growing || self.placing.custom.is_some() || (self.placing.discovery && now >= self.first_look),
            Some(list) => {
                let age = now.since(list.at);
                // Somebody may have made or tagged another subnet, or freed addresses, since the last look.
                let thirsty = || age >= self.thirsty_age() && self.is_thirsty(now);
                lacking || (growing && (age >= Self::LIST_AGE.max(self.lap) || thirsty()))
            }
        };
        if !needed {
            return None;
        }
        let also: BTreeSet<SubnetId> = named.into_iter().collect();
        self.listing = Some(also.clone());
        Some(CloudCall::Subnets { also: also.into_iter().collect() })
    }

    /// EC2 has listed the subnets.
    pub fn listed(&mut self, now: Time, subnets: Vec<SubnetTruth>) {
        let also = self.listing.take().unwrap_or_default();
        for id in &also {
            if subnets.iter().any(|subnet| subnet.id == *id) {
                self.memory.is_known(id);
            } else {
                self.memory.refused(now, id, FailureClass::NotFound);
            }
        }
        let in_vain = self.is_thirsty(now) && !self.has_news(&subnets);
        self.in_vain = if in_vain { self.in_vain.saturating_add(1) } else { 0 };
        self.list = Some(List { at: now, subnets, also });
        self.list_failed = None;
        self.look();
        self.look_at_tags();
    }

    /// EC2 did not list the subnets. The list there was holds; without one the primary ENI's subnet is used.
    pub fn list_failed(&mut self, now: Time, failure: &CloudFailure) {
        self.listing = None;
        let streak = self.list_failed.as_ref().map_or(0, |failed| failed.streak) + 1;
        if streak == 1 {
            self.news.push(PlaceNews::NotListed { failure: failure.clone() });
        }
        let until = now + pause_after(failure.class, streak);
        self.list_failed = Some(ListFailed { until, class: failure.class, streak });
        self.look();
    }

    /// Where a new ENI that should come with `unit`s is made now.
    ///
    /// # Errors
    /// Why none can be made, and the way out. The ENIs there are stay as they are.
    pub fn choose(&self, now: Time, unit: Unit) -> Result<Choice, NoPlace> {
        match self.placing.custom {
            Some(_) => {
                let wanted = self.wanted()?;
                let subnet = wanted.subnet.clone();
                self.pick(now, unit, vec![subnet], &wanted.groups)
            }
            None => self.pick(now, unit, self.allowed()?, &self.home.groups),
        }
    }

    /// A call that takes addresses of a subnet was refused. What does not concern the subnet is not noted.
    pub fn refused(&mut self, now: Time, subnet: &SubnetId, class: FailureClass) {
        let Some(until) = self.memory.refused(now, subnet, class) else { return };
        let (subnet, retry_in) = (subnet.clone(), until.since(now));
        self.news.push(match class {
            FailureClass::Fragmented => PlaceNews::Fragmented { subnet, retry_in },
            FailureClass::NotFound => PlaceNews::Gone { subnet, retry_in },
            _ => PlaceNews::Exhausted { subnet, retry_in },
        });
    }

    /// A subnet gave so many addresses, in `unit`s: what spoke against it is forgotten, if that is more than the node gave back itself.
    pub fn worked(&mut self, subnet: &SubnetId, unit: Unit, addresses: u32) {
        if self.memory.worked(subnet, unit, addresses) {
            self.in_vain = 0;
        }
        self.vouch(subnet);
    }

    /// This node gave so many addresses back to a subnet.
    pub fn got_back(&mut self, subnet: &SubnetId, addresses: u32) {
        self.memory.got_back(subnet, addresses);
    }

    /// What an ENI is for. Unknown is not excluded.
    #[must_use]
    pub fn role_of(&self, eni: &EniFacts) -> EniRole {
        let retired = match self.placing.custom {
            Some(_) if eni.is_primary() => Some(Retired::PrimaryOfCustomNetworking),
            Some(_) => self.is_outside_eni_config(eni).then_some(Retired::OutsideEniConfig),
            None => self.excludes(eni).then_some(Retired::SubnetExcluded),
        };
        retired.map_or(EniRole::Pods, EniRole::Retired)
    }

    /// Whether what the ENIs are for is final. While it is not (custom networking, and no right ENIConfig was seen since the start)
    /// nothing should be given back for its role.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.placing.custom.is_none() || self.good.is_some()
    }

    /// Whether a subnet has single addresses only, as far as is known: it had no free /28 a moment ago.
    #[must_use]
    pub fn single_only(&self, now: Time, subnet: &SubnetId) -> bool {
        self.memory.fragmented(now, subnet).is_some()
    }

    /// Whether a subnet that refused a prefix has, by a list that is not old, too few free addresses for one, also if one more comes back.
    #[must_use]
    pub fn is_crowded(&self, now: Time, subnet: &SubnetId) -> bool {
        // It is renewed at half of that.
        let age = Millis(Self::LIST_AGE.max(self.lap).0 * 2);
        let fresh = self.list.as_ref().is_some_and(|list| now.since(list.at) < age);
        let full = |subnet: &SubnetTruth| subnet.free.saturating_add(1) < Prefix28::SIZE;
        fresh && self.memory.is_doubtful(subnet, Unit::Prefix) && self.subnet(subnet).is_some_and(full)
    }

    /// Until when a subnet that gave nothing is left alone.
    #[must_use]
    pub fn exhausted(&self, now: Time, subnet: &SubnetId) -> Option<Time> {
        self.memory.exhausted(now, subnet)
    }

    /// Whether a subnet refused such units the last time it was asked for some: one position is enough to see whether it gives something again.
    #[must_use]
    pub fn is_doubtful(&self, subnet: &SubnetId, unit: Unit) -> bool {
        self.memory.is_doubtful(subnet, unit)
    }

    /// Moments after `after` at which asking again may give something.
    pub fn deadlines(&self, after: Time) -> impl Iterator<Item = Time> + '_ {
        let list = self.list_failed.as_ref().map(|failed| failed.until);
        let first = self.list.is_none().then_some(self.first_look);
        self.memory.pauses().chain(list).chain(first).filter(move |at| *at > after)
    }

    /// The security groups an ENI in this subnet should have; `None` = an ENIConfig may have given it its own: never overwrite them.
    #[must_use]
    pub fn groups_of(&self, subnet: &SubnetId) -> Option<&[SecurityGroupId]> {
        let follows = match (&self.placing.custom, &self.good) {
            (None, _) => true,
            (Some(_), Some(good)) => good.subnet == *subnet && !good.own_groups,
            (Some(_), None) => false,
        };
        follows.then_some(self.home.groups.as_slice())
    }

    /// What people should hear since the last time.
    pub fn take_news(&mut self) -> Vec<PlaceNews> {
        std::mem::take(&mut self.news)
    }

    /// Says what keeps new ENIs from being made, or that nothing does any more; remembers the last right ENIConfig.
    fn look(&mut self) {
        let place = match self.placing.custom {
            Some(_) => self.wanted().map(Some),
            None => self.allowed().map(|_| None),
        };
        match place {
            Ok(wanted) => {
                if self.wrong.take().is_some() {
                    let config = wanted.as_ref().map(|wanted| (wanted.name.clone(), wanted.subnet.clone()));
                    self.news.push(PlaceNews::Right { config });
                }
                if let Some(wanted) = wanted.filter(|wanted| self.subnet(&wanted.subnet).is_some()) {
                    self.is_good(wanted);
                }
            }
            // Not known yet is not wrong.
            Err(NoPlace::NodeUnread | NoPlace::EniConfigsUnread | NoPlace::Listing) => {}
            Err(wrong) if self.wrong.as_ref() == Some(&wrong) => {}
            Err(wrong) => {
                self.news.push(PlaceNews::Wrong(wrong.clone()));
                self.wrong = Some(wrong);
            }
        }
    }

    /// Whether another subnet than those that are known would help: each of them gives nothing.
    fn is_thirsty(&self, now: Time) -> bool {
        let free_choice = self.placing.custom.is_none() && self.placing.discovery;
        free_choice && self.choose(now, Unit::Address).is_err()
    }

    /// How old the list may be while no subnet has room.
    fn thirsty_age(&self) -> Millis {
        let doubled = Self::THIRSTY_AGE.0.saturating_mul(1 << self.in_vain.min(16));
        Millis(doubled.min(FailureClass::LONGEST.max(self.lap).0))
    }

    /// Whether a list shows room that the last one did not: another subnet, other tags, or more free addresses.
    fn has_news(&self, subnets: &[SubnetTruth]) -> bool {
        let more = |now: &SubnetTruth, then: &SubnetTruth| now.free > then.free || now.tags != then.tags;
        subnets.iter().any(|now| self.subnet(&now.id).is_none_or(|then| more(now, then)))
    }

    fn subnet(&self, id: &SubnetId) -> Option<&SubnetTruth> {
        self.list.as_ref()?.subnets.iter().find(|subnet| subnet.id == *id)
    }

    /// Subnets ENIs may be made in, the best first.
    fn allowed(&self) -> Result<Vec<SubnetId>, NoPlace> {
        let home = &self.home.subnet;
        let Some(list) = &self.list else {
            // The reference refuses every ENI where DescribeSubnets is not allowed; home needs nobody's leave.
            return if self.list_failed.is_some() { Ok(vec![home.clone()]) } else { Err(NoPlace::Listing) };
        };
        let at_home = |subnet: &&SubnetTruth| subnet.vpc == self.home.vpc && subnet.zone == self.home.zone;
        let in_reach = |subnet: &&SubnetTruth| subnet.id == *home || (self.placing.discovery && at_home(subnet));
        let mut allowed: Vec<&SubnetTruth> =
            list.subnets.iter().filter(in_reach).filter(|subnet| self.may_create_in(subnet)).collect();
        allowed.sort_by_key(|subnet| std::cmp::Reverse(subnet.free));
        let mut allowed: Vec<SubnetId> = allowed.into_iter().map(|subnet| subnet.id.clone()).collect();
        // A subnet that another account shares may not be in the list: unknown is not excluded.
        if self.subnet(home).is_none() {
            allowed.push(home.clone());
        }
        if allowed.is_empty() { Err(NoPlace::AllExcluded { home: home.clone() }) } else { Ok(allowed) }
    }

    /// The first of these that was not refused a moment ago; for prefixes first one that has some, as far as is known.
    fn pick(
        &self,
        now: Time,
        unit: Unit,
        subnets: Vec<SubnetId>,
        groups: &[SecurityGroupId],
    ) -> Result<Choice, NoPlace> {
        let open: Vec<&SubnetId> = subnets.iter().filter(|id| self.memory.closed(now, id).is_none()).collect();
        let whole = open.iter().find(|id| !self.single_only(now, id));
        let (subnet, unit) = match (unit, whole) {
            (Unit::Prefix, Some(whole)) => (*whole, Unit::Prefix),
            (_, _) => match open.first() {
                Some(first) => (*first, Unit::Address),
                None => return Err(self.all_refused(now, subnets)),
            },
        };
        Ok(Choice { place: Place { subnet: subnet.clone(), groups: groups.to_vec() }, net: self.net_of(subnet), unit })
    }

    fn all_refused(&self, now: Time, subnets: Vec<SubnetId>) -> NoPlace {
        let closed: BTreeMap<SubnetId, (Refused, Time)> =
            subnets.into_iter().filter_map(|id| self.memory.closed(now, &id).map(|closed| (id, closed))).collect();
        let until = closed.values().map(|(_, until)| *until).min().unwrap_or(now);
        let refused = closed.into_iter().map(|(id, (why, _))| (id, why)).collect();
        NoPlace::AllRefused { refused, retry_in: until.since(now) }
    }

    fn net_of(&self, id: &SubnetId) -> Option<Subnet> {
        let at_home = || self.home.net.filter(|_| self.home.subnet == *id);
        self.subnet(id).map(|subnet| subnet.net).or_else(at_home)
    }

    /// The rules of the tags for new ENIs.
    fn may_create_in(&self, subnet: &SubnetTruth) -> bool {
        match role_tag(subnet) {
            Some("0") => false,
            // Home is used unless it is marked; clusters' tags count only beside the role's.
            None => subnet.id == self.home.subnet,
            Some(_) => self.is_for_our_cluster(subnet),
        }
    }

    /// The rules of the tags for ENIs there are.
    fn excludes(&self, eni: &EniFacts) -> bool {
        let subnet = eni.subnet_id.as_ref().filter(|_| self.placing.discovery).and_then(|id| self.subnet(id));
        subnet.is_some_and(|subnet| self.is_excluded(subnet))
    }

    fn is_excluded(&self, subnet: &SubnetTruth) -> bool {
        match role_tag(subnet) {
            Some("0") => true,
            None => false,
            Some(_) => !self.is_for_our_cluster(subnet),
        }
    }

    fn is_for_our_cluster(&self, subnet: &SubnetTruth) -> bool {
        let Some(ours) = self.placing.cluster.as_deref().filter(|name| !name.is_empty()) else { return true };
        let mut named = subnet.tags.keys().filter_map(|key| key.strip_prefix(CLUSTER_TAG)).peekable();
        named.peek().is_none() || named.any(|name| name == ours)
    }

    /// Says which subnets have come to be excluded.
    fn look_at_tags(&mut self) {
        let Some(list) = self.list.as_ref().filter(|_| self.placing.discovery && self.placing.custom.is_none()) else {
            return;
        };
        let excluded: BTreeSet<SubnetId> =
            list.subnets.iter().filter(|subnet| self.is_excluded(subnet)).map(|subnet| subnet.id.clone()).collect();
        let fresh: Vec<SubnetId> = excluded.difference(&self.said_excluded).cloned().collect();
        self.news.extend(fresh.into_iter().map(|subnet| PlaceNews::Excluded { subnet }));
        self.said_excluded = excluded;
    }
}

/// No tag, and one without a value, say nothing.
fn role_tag(subnet: &SubnetTruth) -> Option<&str> {
    subnet.tags.get(ROLE_TAG).map(String::as_str).filter(|value| !value.is_empty())
}
