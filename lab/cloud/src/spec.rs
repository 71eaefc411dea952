//! What a world is built from: the VPC, its subnets, gateways, route tables and instances.
//!
//! A [`WorldSpec`] is plain data. [`WorldSpec::check`] finds what EC2 would refuse; [`crate::Cloud::new`] calls it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{CardIndex, DeviceIndex, EniId, InstanceId, SecurityGroupId, Subnet, SubnetId, VpcId};

use crate::error::WorldError;
use crate::iam::Policy;

/// Tags of an object: key to value.
pub type Tags = BTreeMap<String, String>;

/// Kinds of ENI that can be there from the start.
pub const INTERFACE_TYPES: [&str; 3] = ["interface", "efa", "trunk"];

/// Everything the model needs to know about a VPC before time begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldSpec {
    /// Region (`us-west-2`).
    pub region: String,
    /// Twelve digits.
    pub account_id: String,
    /// The VPC.
    pub vpc: VpcSpec,
    /// Availability zones.
    pub zones: Vec<ZoneSpec>,
    /// Subnets; they may not overlap and lie inside one of the VPC's CIDRs.
    pub subnets: Vec<SubnetSpec>,
    /// Route tables, exactly one of them the main one.
    pub route_tables: Vec<RouteTableSpec>,
    /// The internet gateway, if the VPC has one (`igw-…`).
    pub internet_gateway: Option<String>,
    /// NAT gateways.
    pub nat_gateways: Vec<NatGatewaySpec>,
    /// Security groups; the first is the VPC's default group.
    pub security_groups: Vec<SecurityGroupSpec>,
    /// Other VPCs that can be reached by peering.
    pub peerings: Vec<PeeringSpec>,
    /// The way to an on-premises network, if there is one.
    pub virtual_gateway: Option<VirtualGatewaySpec>,
    /// Interface endpoints of the provider's services.
    pub endpoints: Vec<EndpointSpec>,
    /// IAM roles; an instance's role that is not named here may do everything.
    pub roles: Vec<RoleSpec>,
    /// Instances that run when time begins.
    pub instances: Vec<InstanceSpec>,
    /// Where automatic public addresses come from.
    pub public_pool: Ipv4Net,
}

/// The VPC itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSpec {
    /// Its id.
    pub id: VpcId,
    /// The primary CIDR first, then the secondary ones.
    pub cidrs: Vec<Ipv4Net>,
    /// Its tags.
    pub tags: Tags,
}

/// An availability zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSpec {
    /// Name within the account (`us-west-2a`).
    pub name: String,
    /// Id that is the same in every account (`usw2-az1`).
    pub id: String,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetSpec {
    /// Its id.
    pub id: SubnetId,
    /// Name for people; also its `Name` tag unless `tags` has one.
    pub name: String,
    /// Its network.
    pub cidr: Subnet,
    /// Name of its zone.
    pub zone: String,
    /// Whether instances launched in it get a public address.
    pub map_public_ip: bool,
    /// Parts of it that are kept for a purpose.
    pub reservations: Vec<ReservationSpec>,
    /// Its tags.
    pub tags: Tags,
}

/// A part of a subnet that is kept for a purpose (a subnet CIDR reservation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationSpec {
    /// The part.
    pub cidr: Ipv4Net,
    /// The purpose.
    pub kind: ReservationKind,
}

/// What a subnet CIDR reservation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReservationKind {
    /// EC2 takes delegated prefixes from it, and nothing else.
    Prefix,
    /// EC2 takes nothing from it by itself; only addresses that are asked for by name.
    Explicit,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTableSpec {
    /// `rtb-…`.
    pub id: String,
    /// Whether subnets without a table of their own use it.
    pub main: bool,
    /// Subnets tied to it.
    pub subnets: Vec<SubnetId>,
    /// Routes; those to the VPC's CIDRs (`local`) are always there and need not be written.
    pub routes: Vec<RouteSpec>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RouteSpec {
    /// Where to.
    pub destination: Ipv4Net,
    /// By way of.
    pub target: RouteTarget,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTarget {
    /// To whatever in the VPC holds the address.
    Local,
    /// The internet gateway of the VPC: only for addresses with a public mapping.
    InternetGateway,
    /// A NAT gateway, by id.
    NatGateway(String),
    /// A peering connection, by id (`pcx-…`).
    Peering(String),
    /// The virtual private gateway, by id (`vgw-…`): the on-premises network.
    VirtualGateway(String),
    /// An ENI, whatever the destination: its source/destination check must be off for packets to pass.
    NetworkInterface(EniId),
    /// Nowhere.
    Blackhole,
}

/// A NAT gateway with one address.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NatGatewaySpec {
    /// `nat-…`.
    pub id: String,
    /// The (public) subnet it stands in.
    pub subnet: SubnetId,
    /// Its address there.
    pub private_ip: Ipv4Addr,
    /// The address the internet sees.
    pub public_ip: Ipv4Addr,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupSpec {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// What may come to its members.
    pub ingress: Vec<GroupRule>,
    /// What may go from its members.
    pub egress: Vec<GroupRule>,
    /// Its tags.
    pub tags: Tags,
}

/// One thing a security group lets through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct GroupRule {
    /// Which packets.
    pub traffic: Traffic,
    /// From (ingress) or to (egress) whom.
    pub peer: RulePeer,
    /// Free text.
    pub description: Option<String>,
}

/// Which packets a rule means. Ports are those of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// All of them.
    All,
    /// TCP to these ports, both ends included.
    Tcp(u16, u16),
    /// UDP to these ports, both ends included.
    Udp(u16, u16),
    /// ICMP of this type and code; `None`: all.
    Icmp(Option<u8>, Option<u8>),
    /// Another IP protocol, by number.
    Protocol(u8),
}

/// The other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulePeer {
    /// Addresses of a network.
    Cidr(Ipv4Net),
    /// All addresses of ENIs that are in a group, delegated prefixes included.
    Group(SecurityGroupId),
}

/// Another VPC, tied to this one by a peering connection. What is in it, the lab decides.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PeeringSpec {
    /// `pcx-…`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Its CIDRs; they overlap with nothing here.
    pub cidrs: Vec<Ipv4Net>,
}

/// An on-premises network behind a virtual private gateway.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VirtualGatewaySpec {
    /// `vgw-…`.
    pub id: String,
    /// Its CIDRs; they overlap with nothing here.
    pub cidrs: Vec<Ipv4Net>,
}

/// An interface endpoint: a service of the provider with an ENI in a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// `vpce-…`.
    pub id: String,
    /// The service (`com.amazonaws.ap-northeast-2.sts`).
    pub service: String,
    /// Subnet of its ENI.
    pub subnet: SubnetId,
    /// Its address there; `None`: the model picks one.
    pub private_ip: Option<Ipv4Addr>,
    /// Its security groups; empty: the VPC's default group.
    pub security_groups: Vec<SecurityGroupId>,
}

/// An IAM role that instances may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSpec {
    /// Its name.
    pub name: String,
    /// Its policy document (JSON, IAM's own format); `None`: it may do everything.
    pub policy: Option<String>,
}

/// An instance and its primary ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSpec {
    /// Its id.
    pub id: InstanceId,
    /// Name for people, unique; also its `Name` tag unless `tags` has one.
    pub name: String,
    /// Type, one of `vpc_model::all_instance_limits`.
    pub instance_type: String,
    /// Subnet of the primary ENI.
    pub subnet: SubnetId,
    /// Primary private address; `None`: the model picks one.
    pub private_ip: Option<Ipv4Addr>,
    /// Public address mapped to it; `None`: one of the pool if the subnet maps public addresses.
    pub public_ip: Option<Ipv4Addr>,
    /// Private DNS name; `None`: `ip-10-20-8-7.<region>.compute.internal`.
    pub private_dns_name: Option<String>,
    /// How many hops an IMDS token answer may go: 1 (host only) to 64.
    pub hop_limit: u8,
    /// Whether IMDS wants a session token with every request (`HttpTokens=required`).
    pub tokens_required: bool,
    /// Whether IMDS shows the instance's tags (`InstanceMetadataTags=enabled`).
    pub metadata_tags: bool,
    /// Security groups of the primary ENI; empty: the VPC's default group.
    pub security_groups: Vec<SecurityGroupId>,
    /// Name of the IAM role whose credentials IMDS hands out; `None`: no role.
    pub role: Option<String>,
    /// ENIs attached from the start beside the primary one.
    pub extra_enis: Vec<ExtraEniSpec>,
    /// Tags of the instance.
    pub tags: Tags,
    /// Tags of its primary ENI.
    pub eni_tags: Tags,
}

/// An ENI attached from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraEniSpec {
    /// Its subnet, in the zone of the instance.
    pub subnet: SubnetId,
    /// Position on its card.
    pub device: DeviceIndex,
    /// Card.
    pub card: CardIndex,
    /// Secondary addresses it holds.
    pub secondary_ips: u32,
    /// /28 prefixes it holds.
    pub prefixes: u32,
    /// Kind (one of [`INTERFACE_TYPES`]).
    pub interface_type: String,
    /// Security groups; empty: the VPC's default group.
    pub security_groups: Vec<SecurityGroupId>,
    /// Its tags.
    pub tags: Tags,
}

impl RoleSpec {
    /// Its policy; `None`: it may do everything.
    ///
    /// # Errors
    /// What is wrong in the document.
    pub fn policy(&self) -> Result<Option<Policy>, WorldError> {
        let parsed = self.policy.as_deref().map(Policy::parse).transpose();
        parsed.map_err(|error| WorldError::Policy { role: self.name.clone(), error })
    }
}

impl InstanceSpec {
    /// An instance with nothing special: hop limit 2, tokens required, the role `node-role`, everything else left to the model.
    #[must_use]
    pub fn new(name: &str, instance_type: &str, subnet: SubnetId) -> Self {
        Self {
            id: id_for(name),
            name: name.to_owned(),
            instance_type: instance_type.to_owned(),
            subnet,
            private_ip: None,
            public_ip: None,
            private_dns_name: None,
            hop_limit: 2,
            tokens_required: true,
            metadata_tags: false,
            security_groups: Vec::new(),
            role: Some("node-role".to_owned()),
            extra_enis: Vec::new(),
            tags: Tags::new(),
            eni_tags: Tags::new(),
        }
    }
}

impl SubnetSpec {
    /// A subnet without tags that maps no public addresses.
    #[must_use]
    pub fn new(name: &str, cidr: Subnet, zone: &str) -> Self {
        Self {
            id: id_for(name),
            name: name.to_owned(),
            cidr,
            zone: zone.to_owned(),
            map_public_ip: false,
            reservations: Vec::new(),
            tags: Tags::new(),
        }
    }
}

impl SecurityGroupSpec {
    /// A group as EC2 makes it: nothing may come in, everything may go out.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let everywhere = RulePeer::Cidr(Ipv4Net::default());
        Self {
            id: id_for(name),
            name: name.to_owned(),
            description: name.to_owned(),
            ingress: Vec::new(),
            egress: vec![GroupRule { traffic: Traffic::All, peer: everywhere, description: None }],
            tags: Tags::new(),
        }
    }

    /// A VPC's default group: everything may come in from its members, everything may go out.
    #[must_use]
    pub fn default_group(name: &str) -> Self {
        let plain = Self::new(name);
        let members = GroupRule { traffic: Traffic::All, peer: RulePeer::Group(plain.id.clone()), description: None };
        Self { ingress: vec![members], description: "default VPC security group".to_owned(), ..plain }
    }
}

impl WorldSpec {
    /// The subnet of that id.
    #[must_use]
    pub fn subnet(&self, id: &SubnetId) -> Option<&SubnetSpec> {
        self.subnets.iter().find(|subnet| subnet.id == *id)
    }

    /// The route table a subnet uses: its own, or the main one.
    #[must_use]
    pub fn route_table_of(&self, subnet: &SubnetId) -> Option<&RouteTableSpec> {
        let own = self.route_tables.iter().find(|table| table.subnets.contains(subnet));
        own.or_else(|| self.route_tables.iter().find(|table| table.main))
    }

    /// Whether a subnet is public: its default route leads to the internet gateway.
    #[must_use]
    pub fn is_public(&self, subnet: &SubnetId) -> bool {
        self.route_table_of(subnet).is_some_and(|table| {
            table.routes.iter().any(|r| r.destination.prefix_len() == 0 && r.target == RouteTarget::InternetGateway)
        })
    }
}

/// Kinds of id that can be made from a name.
pub trait NamedId: Sized {
    /// An id of 17 hexadecimal digits that depends on the name alone.
    fn of_name(name: &str) -> Self;
}

macro_rules! named {
    ($($kind:ty),*) => {$(
        impl NamedId for $kind {
            fn of_name(name: &str) -> Self {
                crate::ids::checked(&id_text(<$kind>::PREFIX, name))
            }
        }
    )*};
}
named!(InstanceId, SubnetId, VpcId, SecurityGroupId);

/// An id made from a name: always the same one for the same name, different for different kinds.
#[must_use]
pub fn id_for<T: NamedId>(name: &str) -> T {
    T::of_name(name)
}

/// The text of an id made from a name, for kinds without a type of their own (`rtb-`, `nat-`, `igw-`).
#[must_use]
pub fn id_text(prefix: &str, name: &str) -> String {
    format!("{prefix}0{:016x}", crate::ids::hash64(prefix, name))
}
