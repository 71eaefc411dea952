//! What lies around the ENIs and may change at run time: CIDRs of the VPC, subnets, route tables, security groups; and the
//! plan that the fabric is told.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use vpc_model::{SecurityGroupId, SubnetId};

use super::{Service, World, named};
use crate::plan::{GroupRules, NetworkPlan, PlannedEndpoint, PlannedSubnet};
use crate::pool::AddressPool;
use crate::spec::{
    GroupRule, ReservationKind, RouteSpec, RouteTableSpec, RouteTarget, SecurityGroupSpec, SubnetSpec, Tags, id_text,
};

/// A CIDR of the VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CidrBlock {
    /// `vpc-cidr-assoc-…`.
    pub(crate) id: String,
    pub(crate) cidr: Ipv4Net,
    pub(crate) state: CidrState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CidrState {
    Associating,
    Associated,
    Disassociating,
}

impl CidrState {
    /// EC2's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Associating => "associating",
            Self::Associated => "associated",
            Self::Disassociating => "disassociating",
        }
    }
}

impl CidrBlock {
    pub(crate) fn of_spec(cidr: Ipv4Net) -> Self {
        Self { id: id_text("vpc-cidr-assoc-", &cidr.to_string()), cidr, state: CidrState::Associated }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SubnetState {
    pub(crate) spec: SubnetSpec,
    pub(crate) pool: AddressPool,
    /// By id (`scr-…`).
    pub(crate) reservations: BTreeMap<String, Reservation>,
    pub(crate) tags: Tags,
}

/// A part of a subnet that is kept for a purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) cidr: Ipv4Net,
    pub(crate) kind: ReservationKind,
    pub(crate) description: Option<String>,
    pub(crate) tags: Tags,
}

impl SubnetState {
    pub(crate) fn new(spec: &SubnetSpec) -> Self {
        let reservation = |spec: &crate::spec::ReservationSpec| Reservation {
            cidr: spec.cidr,
            kind: spec.kind,
            description: None,
            tags: Tags::new(),
        };
        let reservations: BTreeMap<_, _> = spec
            .reservations
            .iter()
            .map(|own| (id_text("scr-", &format!("{} {}", spec.id, own.cidr)), reservation(own)))
            .collect();
        let mut subnet = Self {
            spec: spec.clone(),
            pool: AddressPool::new(spec.cidr),
            reservations,
            tags: named(&spec.tags, &spec.name),
        };
        subnet.tell_pool();
        subnet
    }

    /// Tells the pool what is reserved now.
    pub(crate) fn tell_pool(&mut self) {
        self.pool.reserve(self.reservations.values().map(|own| (own.cidr, own.kind)).collect());
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteTable {
    pub(crate) id: String,
    /// What uses it.
    pub(crate) ties: Vec<TableTie>,
    /// Beside those to the VPC's CIDRs.
    pub(crate) routes: Vec<RouteSpec>,
    pub(crate) tags: Tags,
}

/// That a subnet, or the VPC as its main table, uses a route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableTie {
    /// `rtbassoc-…`.
    pub(crate) id: String,
    /// `None`: all subnets without a tie of their own.
    pub(crate) subnet: Option<SubnetId>,
}

impl RouteTable {
    pub(crate) fn of_spec(spec: &RouteTableSpec) -> Self {
        let tie = |subnet: Option<&SubnetId>| TableTie {
            id: id_text("rtbassoc-", &format!("{} {}", spec.id, subnet.map_or("main", SubnetId::as_str))),
            subnet: subnet.cloned(),
        };
        let mut ties: Vec<_> = spec.subnets.iter().map(|subnet| tie(Some(subnet))).collect();
        if spec.main {
            ties.push(tie(None));
        }
        let routes = spec.routes.iter().filter(|route| route.target != RouteTarget::Local).cloned().collect();
        Self { id: spec.id.clone(), ties, routes, tags: Tags::new() }
    }

    /// Whether subnets without a table of their own use it.
    pub(crate) fn is_main(&self) -> bool {
        self.ties.iter().any(|tie| tie.subnet.is_none())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: SecurityGroupId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) ingress: Vec<Rule>,
    pub(crate) egress: Vec<Rule>,
    pub(crate) tags: Tags,
}

/// A rule of a group, with the id EC2 gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `sgr-…`.
    pub(crate) id: String,
    pub(crate) rule: GroupRule,
    pub(crate) tags: Tags,
}

impl Group {
    pub(crate) fn of_spec(spec: &SecurityGroupSpec) -> Self {
        let rules = |way: &str, rules: &[GroupRule]| {
            let id = |n: usize| id_text("sgr-", &format!("{} {way} {n}", spec.id));
            rules
                .iter()
                .enumerate()
                .map(|(n, rule)| Rule { id: id(n), rule: rule.clone(), tags: Tags::new() })
                .collect()
        };
        Self {
            id: spec.id.clone(),
            name: spec.name.clone(),
            description: spec.description.clone(),
            ingress: rules("ingress", &spec.ingress),
            egress: rules("egress", &spec.egress),
            tags: spec.tags.clone(),
        }
    }
}

impl World {
    /// CIDRs whose addresses can be used now, the primary one first.
    pub(crate) fn usable_cidrs(&self) -> Vec<Ipv4Net> {
        self.cidrs.iter().filter(|block| block.state != CidrState::Associating).map(|block| block.cidr).collect()
    }

    /// The route table a subnet uses: its own, or the main one.
    pub(crate) fn route_table_of(&self, subnet: &SubnetId) -> Option<&RouteTable> {
        let uses = |table: &&RouteTable| table.ties.iter().any(|tie| tie.subnet.as_ref() == Some(subnet));
        self.route_tables.values().find(uses).or_else(|| self.route_tables.values().find(|table| table.is_main()))
    }

    /// Whether a subnet is public: its default route leads to the internet gateway.
    pub(crate) fn is_public(&self, subnet: &SubnetId) -> bool {
        self.route_table_of(subnet).is_some_and(|table| {
            table.routes.iter().any(|r| r.destination.prefix_len() == 0 && r.target == RouteTarget::InternetGateway)
        })
    }

    /// Whether packets of a route end nowhere: it says so, or its ENI is gone.
    pub(crate) fn is_blackhole(&self, target: &RouteTarget) -> bool {
        match target {
            RouteTarget::Blackhole => true,
            RouteTarget::NetworkInterface(eni) => !self.enis.contains_key(eni),
            _ => false,
        }
    }

    /// The network around the ENIs.
    pub(crate) fn plan(&self) -> NetworkPlan {
        let spec = &self.spec;
        let subnets = self.subnets.iter().map(|(id, subnet)| {
            let route_table = self.route_table_of(id).map(|table| table.id.clone()).unwrap_or_default();
            (id.clone(), PlannedSubnet { cidr: subnet.spec.cidr, route_table })
        });
        let route = |route: &RouteSpec| match self.is_blackhole(&route.target) {
            true => RouteSpec { destination: route.destination, target: RouteTarget::Blackhole },
            false => route.clone(),
        };
        let plain = |rules: &[Rule]| rules.iter().map(|rule| rule.rule.clone()).collect();
        let rules = |group: &Group| GroupRules { ingress: plain(&group.ingress), egress: plain(&group.egress) };
        NetworkPlan {
            cidrs: self.usable_cidrs(),
            subnets: subnets.collect(),
            route_tables: self
                .route_tables
                .values()
                .map(|table| (table.id.clone(), table.routes.iter().map(route).collect()))
                .collect(),
            groups: self.groups.iter().map(|(id, group)| (id.clone(), rules(group))).collect(),
            nat_gateways: spec.nat_gateways.clone(),
            peerings: spec.peerings.clone(),
            virtual_gateway: spec.virtual_gateway.clone(),
            endpoints: self.planned_endpoints(),
        }
    }

    fn planned_endpoints(&self) -> Vec<PlannedEndpoint> {
        let eni_of =
            |id: &str| self.enis.values().find(|eni| matches!(&eni.service, Some(Service::Endpoint(own)) if own == id));
        let endpoints = self.spec.endpoints.iter().filter_map(|spec| Some((spec, eni_of(&spec.id)?)));
        endpoints
            .map(|(spec, eni)| PlannedEndpoint {
                id: spec.id.clone(),
                service: spec.service.clone(),
                eni: eni.id.clone(),
                mac: eni.mac,
                subnet: eni.subnet.clone(),
                address: eni.primary,
                groups: eni.groups.clone(),
            })
            .collect()
    }
}
