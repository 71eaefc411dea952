//! The VPC around the ENIs as the fabric must build it, whole: the fabric compares it with what it has built and makes the
//! difference.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{EniId, Mac, SecurityGroupId, Subnet, SubnetId};

use crate::spec::{GroupRule, NatGatewaySpec, PeeringSpec, RouteSpec, VirtualGatewaySpec};

/// Everything of the network that is not an instance's ENI. Ids are EC2's.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NetworkPlan {
    /// CIDRs of the VPC, the primary one first. Routes to them come before all others.
    pub cidrs: Vec<Ipv4Net>,
    /// Subnets.
    pub subnets: BTreeMap<SubnetId, PlannedSubnet>,
    /// Route tables by id (`rtb-…`): routes beside those to the VPC's own CIDRs.
    pub route_tables: BTreeMap<String, Vec<RouteSpec>>,
    /// Security groups: what they let through. Who is in a group, the ENIs say themselves.
    pub groups: BTreeMap<SecurityGroupId, GroupRules>,
    /// NAT gateways.
    pub nat_gateways: Vec<NatGatewaySpec>,
    /// Other VPCs that can be reached by peering.
    pub peerings: Vec<PeeringSpec>,
    /// The way to an on-premises network.
    pub virtual_gateway: Option<VirtualGatewaySpec>,
    /// Interface endpoints: ENIs that belong to no instance but to a service of the provider.
    pub endpoints: Vec<PlannedEndpoint>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedSubnet {
    /// Its network.
    pub cidr: Subnet,
    /// Id of its route table: its own, or the main one.
    pub route_table: String,
}

/// What a security group lets through. Everything else is dropped; answers to what was let through pass by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct GroupRules {
    /// To its members.
    pub ingress: Vec<GroupRule>,
    /// From its members.
    pub egress: Vec<GroupRule>,
}

/// An interface endpoint in one subnet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedEndpoint {
    /// `vpce-…`.
    pub id: String,
    /// The service (`com.amazonaws.ap-northeast-2.sts`).
    pub service: String,
    /// Its ENI.
    pub eni: EniId,
    /// The ENI's MAC.
    pub mac: Mac,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its security groups.
    pub groups: Vec<SecurityGroupId>,
}
