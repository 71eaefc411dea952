//! From what is written to what is built: defaults filled in, references followed, contradictions refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use vpc_model::{Subnet, instance_limits};

use super::cloud::{NODE_ROLE, checked_reservations};
use super::file::{CommandFile, FileFile, NatGatewayFile, NodeFile, SubnetFile};
use super::objects;
use super::outside::{Endpoint, ON_PREMISES, Outside};
use super::{
    Command, Content, NatGateway, NodeSpec, PlacedFile, RouteTable, SubnetSpec, Target, Topology, TopologyFile,
};

/// Names of nodes that commands use for something else.
const RESERVED_NODES: [&str; 3] = ["world", "fabric", ON_PREMISES];
/// Route tables every VPC has.
const PUBLIC: &str = "public";
const PRIVATE: &str = "private";
/// Directories of a node that hold no files of one's own: the kernel fills them.
const KERNEL_DIRECTORIES: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Bandwidths a node can be held to, in Mbit/s: what the kernel's 32 bits of bytes per second hold.
const BANDWIDTHS: std::ops::RangeInclusive<u32> = 1..=34_000;
/// Pods of a node that use its own network: the CNI and the proxy.
const HOST_PODS: u32 = 2;
/// Longest node name: a host name's limit.
const LONGEST_NAME: usize = 63;

/// Why a topology is not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The file can not be read.
    #[error("topology file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// It is not TOML, or a key or value is not one of those accepted.
    #[error("{text}")]
    Syntax {
        /// Place, line and what was expected.
        text: String,
    },
    /// A value is not possible.
    #[error("{field}: {problem}")]
    Value {
        /// Which (`subnets.private-a.cidr`).
        field: String,
        /// What is wrong with it, and what is accepted.
        problem: String,
    },
    /// Two things have the same name.
    #[error("{field}: the name `{name}` is there twice; names of {field} are unique")]
    Duplicate {
        /// The list.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A name leads nowhere.
    #[error("{field}: there is no {kind} `{name}`; there are: {known}")]
    Unknown {
        /// Where it is used (`nodes.node-a.subnet`).
        field: String,
        /// What should have that name.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is there.
        known: String,
    },
    /// Two networks share addresses.
    #[error("{field}: {cidr} overlaps {other_cidr} of {other}")]
    Overlap {
        /// Which (`subnets.private-a.cidr`).
        field: String,
        /// Its network.
        cidr: Ipv4Net,
        /// The other one (`subnets.private-b.cidr`).
        other: String,
        /// Its network.
        other_cidr: Ipv4Net,
    },
}

pub(super) type Result<T> = std::result::Result<T, TopologyError>;

pub(super) fn value<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T> {
    Err(TopologyError::Value { field: field.into(), problem: problem.into() })
}

pub(super) fn unknown<'a, T>(
    field: String,
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Result<T> {
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(TopologyError::Unknown { field, kind, name: name.to_owned(), known })
}

pub(super) fn unique<'a>(field: &'static str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            return value(format!("{field}.name"), "may not be empty");
        }
        if !seen.insert(name) {
            return Err(TopologyError::Duplicate { field, name: name.to_owned() });
        }
    }
    Ok(())
}

impl TopologyFile {
    /// Fills in defaults and checks everything.
    ///
    /// # Errors
    /// The first thing found that can not be built, with its field.
    pub fn resolve(&self) -> Result<Topology> {
        let zones = self.checked_zones()?;
        let cidrs = self.checked_cidrs()?;
        unique("subnets", self.subnets.iter().map(|s| s.name.as_str()))?;
        unique("route_tables", self.route_tables.iter().map(|t| t.name.as_str()))?;
        unique("nat_gateways", self.nat_gateways.iter().map(|g| g.name.as_str()))?;
        unique("nodes", self.nodes.iter().map(|n| n.name.as_str()))?;
        self.checked_hosts(&cidrs)?;
        let nat_gateways = self.nat_gateways()?;
        let outside = self.outside(&cidrs)?;
        let route_tables = self.route_tables(&nat_gateways, &outside)?;
        let subnets = self.subnets(&zones, &cidrs, &route_tables)?;
        public_subnets(&nat_gateways, &subnets, &route_tables)?;
        let nat_gateways = place_gateways(nat_gateways, &subnets, self.public_pool.0)?;
        let security_groups = self.groups()?;
        let nodes = self.nodes(&subnets)?;
        let endpoints = self.endpoints(&outside.services, &subnets)?;
        let hosts: Vec<_> =
            self.public_hosts.iter().copied().chain(outside.services.iter().map(|s| s.address)).collect();
        checked_public_ips(&cidrs, &hosts, &nat_gateways, &nodes)?;
        no_address_twice(&nat_gateways, &nodes, &endpoints)?;
        Ok(Topology {
            region: self.region.clone(),
            zones,
            profile: self.profile,
            seed: self.seed,
            public_hosts: self.public_hosts.clone(),
            public_pool: self.public_pool.0,
            cidrs,
            subnets,
            route_tables,
            nat_gateways,
            security_groups,
            peerings: outside.peerings,
            on_premises: outside.on_premises,
            services: outside.services,
            endpoints,
            names: outside.names,
            link_local_pps: self.checked_link_local()?,
            nodes,
            template: self.equipped(&NodeFile::default())?,
            cloud: self.cloud_settings()?,
            objects: objects::resolved(self)?,
        })
    }

    fn checked_zones(&self) -> Result<Vec<String>> {
        let zones = if self.zones.is_empty() {
            ["a", "b", "c"].map(|letter| format!("{}{letter}", self.region)).to_vec()
        } else {
            self.zones.clone()
        };
        if self.region.is_empty()
            || !self.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return value(
                "region",
                format!("`{}` is not a region: expected something like `ap-northeast-2`", self.region),
            );
        }
        unique("zones", zones.iter().map(String::as_str))?;
        match zones.iter().find(|zone| !zone.starts_with(&self.region) || zone.len() == self.region.len()) {
            Some(zone) => {
                value("zones", format!("`{zone}` is not a zone of {}: expected `{}a`", self.region, self.region))
            }
            None => Ok(zones),
        }
    }

    fn checked_cidrs(&self) -> Result<Vec<Ipv4Net>> {
        let cidrs: Vec<_> = self.vpc.cidrs.iter().map(|cidr| cidr.0).collect();
        if cidrs.is_empty() {
            return value("vpc.cidrs", "a VPC has at least one CIDR, such as `10.20.0.0/16`");
        }
        for (i, cidr) in cidrs.iter().enumerate() {
            if Subnet::try_from(*cidr).is_err() {
                return value("vpc.cidrs", format!("{cidr} can not be a VPC's: expected a length between /16 and /28"));
            }
            if let Some(other) = cidrs.iter().take(i).find(|other| overlap(other, cidr)) {
                let other = *other;
                let field = "vpc.cidrs".to_owned();
                return Err(TopologyError::Overlap { other: field.clone(), field, cidr: *cidr, other_cidr: other });
            }
        }
        Ok(cidrs)
    }

    fn checked_hosts(&self, cidrs: &[Ipv4Net]) -> Result<()> {
        let inside =
            |host: &Ipv4Addr| cidrs.iter().any(|cidr| cidr.contains(host)) || self.public_pool.0.contains(host);
        if let Some(host) = self.public_hosts.iter().find(|host| odd(**host) || inside(host)) {
            return value(
                "public_hosts",
                format!(
                    "{host} can not be a host of the internet: expected an address outside the VPC and outside `public_pool`"
                ),
            );
        }
        if let Some(cidr) = cidrs.iter().find(|cidr| overlap(cidr, &self.public_pool.0)) {
            return value("public_pool", format!("{} overlaps the VPC's {cidr}", self.public_pool));
        }
        if self.public_pool.0.prefix_len() > 28 {
            return value("public_pool", format!("{} is too small: expected /28 or larger", self.public_pool));
        }
        Ok(())
    }

    fn checked_link_local(&self) -> Result<Option<u32>> {
        match self.link_local_pps {
            Some(0) => value("link_local_pps", "0 would let nothing pass: expected packets per second, 1024 on AWS"),
            limit => Ok(limit),
        }
    }

    /// The gateways as written; their places are found when the subnets are known.
    fn nat_gateways(&self) -> Result<Vec<(NatGatewayFile, String)>> {
        let zone_of = |gateway: &NatGatewayFile| match self.subnets.iter().find(|s| s.name == gateway.subnet) {
            Some(subnet) => Ok((gateway.clone(), subnet.zone.clone())),
            None => {
                let field = format!("nat_gateways.{}.subnet", gateway.name);
                unknown(field, "subnet", &gateway.subnet, self.subnets.iter().map(|s| s.name.as_str()))
            }
        };
        self.nat_gateways.iter().map(zone_of).collect()
    }

    /// The built-in tables (one private table for each zone) and the written ones.
    fn route_tables(&self, gateways: &[(NatGatewayFile, String)], outside: &Outside) -> Result<Vec<RouteTable>> {
        let everywhere = Ipv4Net::default();
        let mut tables =
            vec![RouteTable { name: PUBLIC.to_owned(), routes: vec![(everywhere, Target::InternetGateway)] }];
        for zone in self.subnets.iter().map(|s| &s.zone).collect::<BTreeSet<_>>() {
            let near = gateways.iter().find(|(_, own)| own == zone).or_else(|| gateways.first());
            let routes = near.map(|(gateway, _)| (everywhere, Target::NatGateway(gateway.name.clone())));
            tables.push(RouteTable { name: private_of(zone), routes: routes.into_iter().collect() });
        }
        for table in &self.route_tables {
            let field = format!("route_tables.{}", table.name);
            if table.name == PUBLIC || table.name == PRIVATE || table.name.starts_with("private (") {
                return value(field, "this name is built in; choose another one");
            }
            let mut routes = BTreeMap::new();
            for route in &table.routes {
                let target = match route.via.as_str() {
                    "internet-gateway" => Target::InternetGateway,
                    "blackhole" => Target::Blackhole,
                    name if gateways.iter().any(|(gateway, _)| gateway.name == name) => {
                        Target::NatGateway(name.to_owned())
                    }
                    name => match outside.target(name) {
                        Some(target) => target,
                        None => {
                            let known = ["internet-gateway", "blackhole"].into_iter();
                            let known = known.chain(gateways.iter().map(|(g, _)| g.name.as_str()));
                            let known = known.chain(outside.targets());
                            return unknown(format!("{field}.routes.via"), "target", name, known);
                        }
                    },
                };
                if routes.insert(route.to.0, target).is_some() {
                    return value(format!("{field}.routes.to"), format!("{} is there twice", route.to));
                }
            }
            tables.push(RouteTable { name: table.name.clone(), routes: routes.into_iter().collect() });
        }
        Ok(tables)
    }

    fn subnets(&self, zones: &[String], cidrs: &[Ipv4Net], tables: &[RouteTable]) -> Result<Vec<SubnetSpec>> {
        let mut done: Vec<SubnetSpec> = Vec::new();
        for subnet in &self.subnets {
            let field = |key: &str| format!("subnets.{}.{key}", subnet.name);
            if !zones.contains(&subnet.zone) {
                return unknown(field("zone"), "zone", &subnet.zone, zones.iter().map(String::as_str));
            }
            let cidr = Subnet::try_from(subnet.cidr.0).or_else(|e| value(field("cidr"), e.to_string()))?;
            if !cidrs.iter().any(|vpc| vpc.contains(&cidr.net())) {
                let vpc = cidrs.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ");
                return value(
                    field("cidr"),
                    format!("{cidr} is outside the VPC: expected a network inside one of {vpc}"),
                );
            }
            if let Some(other) = done.iter().find(|other| overlap(&other.cidr.net(), &cidr.net())) {
                return Err(TopologyError::Overlap {
                    field: field("cidr"),
                    cidr: cidr.net(),
                    other: format!("subnets.{}.cidr", other.name),
                    other_cidr: other.cidr.net(),
                });
            }
            let route_table = table_of(subnet);
            if !tables.iter().any(|table| table.name == route_table) {
                let written = self.route_tables.iter().map(|table| table.name.as_str());
                return unknown(
                    field("route_table"),
                    "route table",
                    &route_table,
                    [PUBLIC, PRIVATE].into_iter().chain(written),
                );
            }
            done.push(SubnetSpec {
                name: subnet.name.clone(),
                zone: subnet.zone.clone(),
                cidr,
                route_table,
                map_public_ip: subnet.map_public_ip.unwrap_or(subnet.public),
                reservations: checked_reservations(&field("reservations"), cidr, &subnet.reservations)?,
                tags: subnet.tags.clone(),
            });
        }
        if done.is_empty() { value("subnets", "a VPC has at least one subnet") } else { Ok(done) }
    }

    fn nodes(&self, subnets: &[SubnetSpec]) -> Result<Vec<NodeSpec>> {
        self.nodes.iter().map(|node| self.node(node, subnets)).collect()
    }

    fn node(&self, node: &NodeFile, subnets: &[SubnetSpec]) -> Result<NodeSpec> {
        let field = |key: &str| format!("nodes.{}.{key}", node.name);
        checked_node_name(&node.name)?;
        let Some(subnet) = subnets.iter().find(|subnet| subnet.name == node.subnet) else {
            return unknown(field("subnet"), "subnet", &node.subnet, subnets.iter().map(|s| s.name.as_str()));
        };
        if let Some(address) = node.private_ip {
            free_in(&field("private_ip"), subnet, address)?;
        }
        self.equipped(node)
    }

    /// A node with everything that its own keys and the defaults give it. One without a name stands for the defaults alone.
    fn equipped(&self, node: &NodeFile) -> Result<NodeSpec> {
        let owner = if node.name.is_empty() { "node_defaults".to_owned() } else { format!("nodes.{}", node.name) };
        let field = |key: &str| format!("{owner}.{key}");
        let defaults = &self.node_defaults;
        let instance_type = node.instance_type.as_ref().or(defaults.instance_type.as_ref());
        let instance_type = instance_type.map_or("m5.large", String::as_str);
        if instance_limits(instance_type).is_none() {
            let problem = format!(
                "`{instance_type}` is not an instance type with a known limit: expected one like m5.large, c6g.4xlarge or t3.small"
            );
            return value(field("instance_type"), problem);
        }
        let hop_limit = node.hop_limit.or(defaults.hop_limit).unwrap_or(1);
        if !(1..=64).contains(&hop_limit) {
            return value(field("hop_limit"), format!("{hop_limit} is not possible: expected 1 to 64"));
        }
        let groups = node.security_groups.as_ref().or(defaults.security_groups.as_ref()).map_or(&[][..], Vec::as_slice);
        let bandwidth_mbps = node.bandwidth_mbps.or(defaults.bandwidth_mbps);
        if let Some(mbps) = bandwidth_mbps.filter(|mbps| !BANDWIDTHS.contains(mbps)) {
            let (least, most) = (BANDWIDTHS.start(), BANDWIDTHS.end());
            return value(
                field("bandwidth_mbps"),
                format!("{mbps} is not possible: expected {least} to {most} Mbit/s"),
            );
        }
        let mut env = defaults.env.clone();
        env.extend(node.env.clone());
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return value(field("env"), format!("`{name}` is not a name of a variable: expected one without `=`"));
        }
        let files = defaults.files.iter().chain(&node.files).map(|file| self.placed(&field("files"), file));
        let default_daemon = CommandFile { command: vec!["/app/aws-k8s-agent".to_owned()], cwd: None };
        let daemon = node.daemon.as_ref().or(defaults.daemon.as_ref()).unwrap_or(&default_daemon);
        let init = node.init.as_ref().or(defaults.init.as_ref());
        Ok(NodeSpec {
            name: node.name.clone(),
            instance_type: instance_type.to_owned(),
            subnet: node.subnet.clone(),
            private_ip: node.private_ip,
            public_ip: node.public_ip,
            security_groups: self.groups_of(field("security_groups"), groups)?,
            hop_limit,
            role: node.role.as_ref().or(defaults.role.as_ref()).map_or(NODE_ROLE, String::as_str).to_owned(),
            tokens_required: node.tokens_required.or(defaults.tokens_required).unwrap_or(true),
            metadata_tags: node.metadata_tags.or(defaults.metadata_tags).unwrap_or(false),
            tags: defaults.tags.iter().chain(&node.tags).map(|(key, tag)| (key.clone(), tag.clone())).collect(),
            bandwidth_mbps,
            max_pods: node.max_pods.or(defaults.max_pods).unwrap_or_else(|| most_pods(instance_type)),
            init: init.map(|command| checked_command(&field("init"), command)).transpose()?.flatten(),
            daemon: checked_command(&field("daemon"), daemon)?,
            restart: node.restart.or(defaults.restart).unwrap_or_default(),
            plugin: node.plugin.as_ref().or(defaults.plugin.as_ref()).map(|path| self.base.join(path)),
            files: files.collect::<Result<_>>()?,
            env,
        })
    }

    fn placed(&self, field: &str, file: &FileFile) -> Result<PlacedFile> {
        absolute(&format!("{field}.path"), &file.path)?;
        if let Some(dir) = KERNEL_DIRECTORIES.iter().find(|dir| file.path.starts_with(dir)) {
            let problem = format!(
                "`{}` lies in {dir}, which the kernel fills: expected a path elsewhere, such as /etc/x or /app/x",
                file.path.display()
            );
            return value(format!("{field}.path"), problem);
        }
        let content = match (&file.source, &file.content) {
            (Some(source), None) => Content::HostFile(self.base.join(source)),
            (None, Some(text)) => Content::Text(text.clone()),
            _ => {
                return value(
                    field,
                    format!("{}: expected exactly one of `source` and `content`", file.path.display()),
                );
            }
        };
        let mode = match (file.mode, &content) {
            (Some(mode), _) if mode <= 0o7777 => mode,
            (Some(mode), _) => {
                return value(
                    format!("{field}.mode"),
                    format!("0o{mode:o} is not a permission: expected 0o000 to 0o7777"),
                );
            }
            (None, Content::Text(_)) => 0o644,
            (None, Content::HostFile(path)) => host_mode(&format!("{field}.source"), path)?,
        };
        Ok(PlacedFile { path: file.path.clone(), content, mode })
    }
}

/// Name of the route table a subnet uses.
fn table_of(subnet: &SubnetFile) -> String {
    match subnet.route_table.as_deref() {
        Some(PRIVATE) => private_of(&subnet.zone),
        Some(name) => name.to_owned(),
        None if subnet.public => PUBLIC.to_owned(),
        None => private_of(&subnet.zone),
    }
}

fn private_of(zone: &str) -> String {
    format!("private ({zone})")
}

/// Gives each gateway its addresses: public ones from the upper half of the pool, so that instances have the lower one.
fn place_gateways(
    gateways: Vec<(NatGatewayFile, String)>,
    subnets: &[SubnetSpec],
    pool: Ipv4Net,
) -> Result<Vec<NatGateway>> {
    let half = pool.network().to_bits() + (1 << (31 - pool.prefix_len()));
    let mut done = Vec::new();
    for (next, (gateway, _)) in (half..).zip(gateways) {
        let field = |key: &str| format!("nat_gateways.{}.{key}", gateway.name);
        let Some(subnet) = subnets.iter().find(|subnet| subnet.name == gateway.subnet) else { continue };
        let fifth = Ipv4Addr::from_bits(subnet.cidr.net().network().to_bits() + 4);
        let private_ip = gateway.private_ip.unwrap_or(fifth);
        free_in(&field("private_ip"), subnet, private_ip)?;
        let public_ip = gateway.public_ip.unwrap_or(Ipv4Addr::from_bits(next));
        if gateway.public_ip.is_none() && !pool.contains(&public_ip) {
            return value("public_pool", format!("{pool} has too few addresses for the NAT gateways"));
        }
        done.push(NatGateway { name: gateway.name, subnet: gateway.subnet, private_ip, public_ip });
    }
    Ok(done)
}

/// A NAT gateway works where its own packets leave through the internet gateway.
fn public_subnets(gateways: &[(NatGatewayFile, String)], subnets: &[SubnetSpec], tables: &[RouteTable]) -> Result<()> {
    let is_public = |subnet: &SubnetSpec| {
        let own = tables.iter().filter(|table| table.name == subnet.route_table).flat_map(|table| &table.routes);
        own.into_iter().any(|(to, via)| to.prefix_len() == 0 && *via == Target::InternetGateway)
    };
    for (gateway, _) in gateways {
        if let Some(subnet) = subnets.iter().find(|s| s.name == gateway.subnet && !is_public(s)) {
            let public: Vec<_> = subnets.iter().filter(|s| is_public(s)).map(|s| s.name.as_str()).collect();
            let public = if public.is_empty() { "none".to_owned() } else { public.join(", ") };
            let problem = format!(
                "`{}` is not a public subnet: its route table `{}` does not lead everything else to the internet gateway; public are: {public}",
                subnet.name, subnet.route_table
            );
            return value(format!("nat_gateways.{}.subnet", gateway.name), problem);
        }
    }
    Ok(())
}

/// A public address belongs to the internet: not to the VPC, and not to a host out there.
fn checked_public_ips(
    cidrs: &[Ipv4Net],
    hosts: &[Ipv4Addr],
    gateways: &[NatGateway],
    nodes: &[NodeSpec],
) -> Result<()> {
    let of_gateways = gateways.iter().map(|g| (format!("nat_gateways.{}.public_ip", g.name), g.public_ip));
    let of_nodes = nodes.iter().filter_map(|n| Some((format!("nodes.{}.public_ip", n.name), n.public_ip?)));
    let expected = "expected an address outside the VPC that no public host has, such as one of `public_pool`";
    for (field, address) in of_gateways.chain(of_nodes) {
        if let Some(cidr) = cidrs.iter().find(|cidr| cidr.contains(&address)) {
            return value(field, format!("{address} is inside the VPC's {cidr}: {expected}"));
        }
        if hosts.contains(&address) {
            return value(field, format!("{address} is that of a host in `public_hosts` or `services`: {expected}"));
        }
        if odd(address) {
            return value(field, format!("{address} is no address of the internet: {expected}"));
        }
    }
    Ok(())
}

/// Addresses nobody can have in the internet.
pub(super) fn odd(address: Ipv4Addr) -> bool {
    address.is_link_local()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unspecified()
        || address.is_broadcast()
}

fn no_address_twice(gateways: &[NatGateway], nodes: &[NodeSpec], endpoints: &[Endpoint]) -> Result<()> {
    let of_gateways = gateways.iter().flat_map(|g| {
        [
            (format!("nat_gateways.{}.private_ip", g.name), g.private_ip),
            (format!("nat_gateways.{}.public_ip", g.name), g.public_ip),
        ]
    });
    let of_nodes = nodes.iter().flat_map(|n| {
        let field = |key| format!("nodes.{}.{key}", n.name);
        [n.private_ip.map(|ip| (field("private_ip"), ip)), n.public_ip.map(|ip| (field("public_ip"), ip))]
            .into_iter()
            .flatten()
    });
    let of_endpoints =
        endpoints.iter().filter_map(|e| Some((format!("endpoints.{}.private_ip", e.service), e.private_ip?)));
    let mut seen: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for (field, address) in of_gateways.chain(of_nodes).chain(of_endpoints) {
        if let Some(other) = seen.insert(address, field.clone()) {
            return value(field, format!("{address} is that of {other} already"));
        }
    }
    Ok(())
}

pub(super) fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

pub(super) fn free_in(field: &str, subnet: &SubnetSpec, address: Ipv4Addr) -> Result<()> {
    if !subnet.cidr.net().contains(&address) || subnet.cidr.reserves(address) {
        let problem = format!(
            "{address} is not free in {} ({}): the first four addresses and the last are EC2's",
            subnet.name, subnet.cidr
        );
        return value(field, problem);
    }
    Ok(())
}

/// Whether a node can have this name: it is also its host name, a directory and a word of commands.
pub(crate) fn checked_node_name(name: &str) -> Result<()> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !letters || name.starts_with('-') || name.len() > LONGEST_NAME {
        let problem = format!(
            "`{name}` can not be a node's: expected up to {LONGEST_NAME} lower-case letters, digits and dashes"
        );
        return value("nodes.name", problem);
    }
    if RESERVED_NODES.contains(&name) {
        return value("nodes.name", format!("`{name}` means something else in the commands; choose another one"));
    }
    Ok(())
}

fn checked_command(field: &str, command: &CommandFile) -> Result<Option<Command>> {
    let cwd = command.cwd.clone().unwrap_or_else(|| PathBuf::from("/app"));
    absolute(&format!("{field}.cwd"), &cwd)?;
    match command.command.first() {
        None => return Ok(None),
        Some(program) => absolute(&format!("{field}.command"), Path::new(program))?,
    }
    Ok(Some(Command { command: command.command.clone(), cwd }))
}

fn absolute(field: &str, path: &Path) -> Result<()> {
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if path.is_absolute() && !climbs {
        return Ok(());
    }
    value(field, format!("`{}`: expected an absolute path in the node, without `..`", path.display()))
}

fn host_mode(field: &str, path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(meta) => Ok(meta.permissions().mode() & 0o7777),
        Err(e) => value(field, format!("{}: {e}", path.display())),
    }
}

/// As many pods as EKS lets a node of that type have: one for each secondary address, and those on the node's own network.
fn most_pods(instance_type: &str) -> u32 {
    instance_limits(instance_type).map_or(HOST_PODS, |limits| limits.max_enis * limits.slots_per_eni() + HOST_PODS)
}
