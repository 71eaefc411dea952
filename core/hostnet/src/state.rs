//! The vocabulary: links, routes, rules, the packet filter, and the operations that change them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{LinkName, Mac, RouteTable, VethPrefix};

/// Priorities of our routing rules, as the reference numbers them so that a node can change hands in place.
pub mod priority {
    /// `to <pod> lookup main`: deliver to pods whatever the source or mark.
    pub const TO_POD: u32 = 512;
    /// `fwmark M/M lookup main`: NodePort replies and traffic to be source-NATed leave by the primary ENI.
    pub const MARKED: u32 = 1024;
    /// `to <cidr> lookup main`: external service CIDRs.
    pub const EXTERNAL_SERVICE: u32 = 1535;
    /// `from <pod> lookup N`: a pod leaves by its own ENI.
    pub const FROM_POD: u32 = 1536;
    /// `from <ENI primary address> lookup N`: an ENI's own address leaves by the ENI.
    pub const FROM_ENI: u32 = 32765;
}

/// A value and the bits of a packet or connection mark it speaks about. Bits outside the mask belong to others and survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The bits as set.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}

impl Mark {
    /// A mark whose every bit counts (value = mask), as `AWS_VPC_K8S_CNI_CONNMARK` describes it.
    #[must_use]
    pub fn bits(bits: u32) -> Self {
        Self { value: bits, mask: bits }
    }
}

/// How the source port of a translated connection is chosen (`AWS_VPC_K8S_CNI_RANDOMIZESNAT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SnatRandom {
    /// Fully random (`prng`).
    #[default]
    Prng,
    /// Random by hash of source and destination (`hashrandom`).
    HashRandom,
    /// The kernel's sequential choice (`none`).
    None,
}

/// How host routing is laid out (`VPC_CNI_HOST_LAYOUT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostLayout {
    /// The reference's: a /32 in main and two rules for each pod.
    #[default]
    Classic,
}

/// What the settings of the node say about the host's network.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HostSettings {
    /// Layout of routes and rules.
    pub layout: HostLayout,
    /// Beginning of the names of pods' host links (`AWS_VPC_K8S_CNI_VETHPREFIX`).
    pub veth_prefix: VethPrefix,
    /// MTU of the ENIs in bytes (`AWS_VPC_ENI_MTU`).
    pub eni_mtu: u32,
    /// Source NAT is done elsewhere (`AWS_VPC_K8S_CNI_EXTERNALSNAT`).
    pub external_snat: bool,
    /// Destinations that are never source-NATed besides the VPC's own CIDRs (`AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`).
    pub exclude_snat: Vec<Ipv4Net>,
    /// Destinations reached by the primary ENI (`AWS_EXTERNAL_SERVICE_CIDRS`).
    pub external_services: Vec<Ipv4Net>,
    /// Port choice of source NAT (`AWS_VPC_K8S_CNI_RANDOMIZESNAT`).
    pub snat_random: SnatRandom,
    /// Replies of NodePort connections leave by the primary ENI (`AWS_VPC_CNI_NODE_PORT_SUPPORT`).
    pub node_port: bool,
    /// Our bit of packet and connection marks (`AWS_VPC_K8S_CNI_CONNMARK`).
    pub mark: u32,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            layout: HostLayout::Classic,
            veth_prefix: VethPrefix::default(),
            eni_mtu: 9001,
            external_snat: false,
            exclude_snat: Vec::new(),
            external_services: Vec::new(),
            snat_random: SnatRandom::Prng,
            node_port: true,
            mark: 0x80,
        }
    }
}

/// What stands behind a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// One end of a veth pair.
    Veth,
    /// Anything else: a device, a bridge …
    Other,
}

/// Reverse path filter of a link (`net.ipv4.conf.<link>.rp_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RpFilter {
    /// 0: any source is taken.
    Off,
    /// 1: the way back must be the same link.
    Strict,
    /// 2: some way back must exist.
    Loose,
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: LinkName,
    /// Hardware address (all zero for links without one).
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// What it is.
    pub kind: LinkKind,
    /// `IFLA_IFALIAS`, if any.
    pub alias: Option<String>,
    /// IPv4 addresses with their prefix lengths.
    pub addresses: BTreeSet<Ipv4Net>,
    /// Reverse path filter, where it was read.
    pub rp_filter: Option<RpFilter>,
}

/// Whether the next hop is the destination itself or a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteScope {
    /// Through a gateway.
    Universe,
    /// On the link.
    Link,
    /// To the host itself (table `local`).
    Host,
}

/// A unicast IPv4 route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Route {
    /// Table it stands in.
    pub table: RouteTable,
    /// Destination; `0.0.0.0/0` is the default route.
    pub to: Ipv4Net,
    /// Gateway, if not on the link.
    pub via: Option<Ipv4Addr>,
    /// Link it leaves by.
    pub link: LinkName,
    /// Scope.
    pub scope: RouteScope,
    /// Preferred source, if any.
    pub source: Option<Ipv4Addr>,
    /// The gateway counts as on the link even where no route says so (`RTNH_F_ONLINK`).
    pub onlink: bool,
}

impl Route {
    /// `to dev link scope link table …`.
    #[must_use]
    pub fn on_link(table: RouteTable, to: Ipv4Net, link: LinkName) -> Self {
        Self { table, to, via: None, link, scope: RouteScope::Link, source: None, onlink: false }
    }

    /// `to via gateway dev link table …`.
    #[must_use]
    pub fn through(table: RouteTable, to: Ipv4Net, via: Ipv4Addr, link: LinkName) -> Self {
        Self { table, to, via: Some(via), link, scope: RouteScope::Universe, source: None, onlink: false }
    }
}

/// An IPv4 routing rule that looks up a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    /// Preference: the lowest is asked first.
    pub priority: u32,
    /// Only packets from here.
    pub from: Option<Ipv4Net>,
    /// Only packets to here.
    pub to: Option<Ipv4Net>,
    /// Only packets with this mark.
    pub mark: Option<Mark>,
    /// Only packets that came in by this link.
    pub iif: Option<LinkName>,
    /// The table to look up.
    pub table: RouteTable,
}

impl Rule {
    /// Whether the kernel, asked to remove this rule, may take that one: a selector that is not given matches any, so a rule that
    /// says the same and more is taken too.
    #[must_use]
    pub fn removes(&self, other: &Self) -> bool {
        let given = |net: &Option<Ipv4Net>| net.filter(|net| net.prefix_len() > 0);
        self.priority == other.priority
            && (self.table == RouteTable(0) || self.table == other.table)
            && given(&self.from).is_none_or(|from| other.from == Some(from))
            && given(&self.to).is_none_or(|to| other.to == Some(to))
            && self.mark.is_none_or(|mark| other.mark == Some(mark))
            && self.iif.as_ref().is_none_or(|iif| other.iif.as_ref() == Some(iif))
    }
}

/// A pinned (permanent) neighbour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Neighbour {
    /// Link it is behind.
    pub link: LinkName,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    pub mac: Mac,
}

/// The packet filter of a node in meaning, not in expressions: the backend (nft, later iptables) spells it.
///
/// Order of what happens to a packet, all of it only for IPv4:
/// 1. *before destination NAT*: came in by the primary link, for a local address of that link, and `node_port`: the connection gets the mark;
/// 2. *after destination NAT*: a new connection from a pod link, to neither a local address nor an exempt network, and SNAT is on: the
///    connection gets the mark; then the connection's bit is copied to the packet (bits outside the mask survive);
/// 3. *after routing*: not from the primary address, not to an exempt or local one, not out of a `vlan*` link, and SNAT is on: source
///    becomes the primary address.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Filter {
    /// Link of the primary ENI.
    pub primary_link: LinkName,
    /// Primary address of the primary ENI: what sources become.
    pub primary_address: Ipv4Addr,
    /// Pods' links begin with this.
    pub veth_prefix: VethPrefix,
    /// Our mark.
    pub mark: Mark,
    /// Mark NodePort connections (1).
    pub node_port: bool,
    /// Translate sources (2, 3); `None` with external SNAT.
    pub snat: Option<SnatRandom>,
    /// VPC CIDRs and exclusions, sorted, without overlaps.
    pub exempt: Vec<Ipv4Net>,
}

/// What stands in the kernel under our table's name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FilterSeen {
    /// The fingerprint the table was written with ([`Filter::fingerprint`]), if it carries one.
    pub fingerprint: Option<String>,
    /// Its rules are as many, in the same chains, as were written: nobody flushed or added any.
    pub intact: bool,
}

/// The host's network as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostState {
    /// All links of the host's namespace.
    pub links: Vec<Link>,
    /// All unicast IPv4 routes but those of table `local`.
    pub routes: BTreeSet<Route>,
    /// All IPv4 rules, those of the kernel too.
    pub rules: BTreeSet<Rule>,
    /// Permanent IPv4 neighbours.
    pub neighbours: BTreeSet<Neighbour>,
    /// Our packet filter table.
    pub filter: Option<FilterSeen>,
    /// Switches read (`net/ipv4/ip_forward` …) with their values.
    pub sysctls: BTreeMap<String, String>,
}

impl HostState {
    /// The link of that name.
    #[must_use]
    pub fn link(&self, name: &LinkName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }

    /// All links by their names.
    pub(crate) fn links_by_name(&self) -> BTreeMap<&LinkName, &Link> {
        self.links.iter().rev().map(|link| (&link.name, link)).collect()
    }

    /// The link with that hardware address. Pods' veths are not considered: an ENI is never one of ours.
    #[must_use]
    pub fn eni_link(&self, mac: Mac, prefix: &VethPrefix) -> Option<&Link> {
        let pods = |link: &&Link| {
            link.kind == LinkKind::Veth && link.alias.is_some() && link.name.as_str().starts_with(prefix.as_str())
        };
        self.links.iter().find(|link| link.mac == mac && !pods(link))
    }
}

/// One change of the host's network. Applying a change that already holds is not an error: adding what is there and removing
/// what is not both succeed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum HostOp {
    /// Administrative state and MTU.
    SetLink {
        /// Which.
        link: LinkName,
        /// MTU in bytes; `None` = as it is.
        mtu: Option<u32>,
        /// Up or down.
        up: bool,
    },
    /// An address of a link. The kernel adds the connected route to main by itself unless `no_prefix_route`.
    AddAddress {
        /// Which link.
        link: LinkName,
        /// Address with its prefix length.
        address: Ipv4Net,
        /// Leave the connected route out (`IFA_F_NOPREFIXROUTE`).
        no_prefix_route: bool,
    },
    /// Takes an address off a link.
    RemoveAddress {
        /// Which link.
        link: LinkName,
        /// Address with its prefix length.
        address: Ipv4Net,
    },
    /// Adds the route, in place of another to the same destination in the same table.
    ReplaceRoute(Route),
    /// Removes the route.
    RemoveRoute(Route),
    /// Adds the rule unless the same one is there.
    AddRule(Rule),
    /// Removes the rule, every copy of it, and with it every rule that says the same and more ([`Rule::removes`]).
    RemoveRule(Rule),
    /// Pins a neighbour.
    PinNeighbour(Neighbour),
    /// Forgets a neighbour.
    RemoveNeighbour(Neighbour),
    /// Reverse path filter of a link.
    SetRpFilter {
        /// Which.
        link: LinkName,
        /// What.
        mode: RpFilter,
    },
    /// A switch under `/proc/sys`, by path with slashes.
    SetSysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// Value.
        value: String,
    },
    /// Replaces our packet filter table as a whole, in one transaction.
    ReplaceFilter(Filter),
    /// Deletes a link (and its veth peer).
    DeleteLink {
        /// Which.
        link: LinkName,
    },
}

impl HostOp {
    /// The object it changes, for messages.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::SetLink { link, .. } | Self::SetRpFilter { link, .. } | Self::DeleteLink { link } => {
                format!("link {link}")
            }
            Self::AddAddress { link, address, .. } | Self::RemoveAddress { link, address } => {
                format!("address {address} on {link}")
            }
            Self::ReplaceRoute(route) | Self::RemoveRoute(route) => {
                format!("route {} in table {}", route.to, route.table)
            }
            Self::AddRule(rule) | Self::RemoveRule(rule) => format!("rule {}", rule.priority),
            Self::PinNeighbour(n) | Self::RemoveNeighbour(n) => format!("neighbour {} on {}", n.address, n.link),
            Self::SetSysctl { key, .. } => format!("sysctl {key}"),
            Self::ReplaceFilter(_) => "packet filter table vpc-cni".to_owned(),
        }
    }
}
