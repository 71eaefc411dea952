//! The router's routing tables, made to follow the plan.
//!
//! ```text
//!   first pass (from an ENI):   local -> 501: CIDRs of the VPC: into the loop; NAT gateways: their links
//!                                     -> table of the subnet's route table, first pass: gateways; routes to an ENI: into the loop
//!   second pass, and gateways:  local -> 500: known addresses: their ports (written by the ports themselves); the rest of the CIDRs: no way
//!                                     -> table of the route table, second pass: gateways; routes to an ENI: its port
//! ```
//!
//! What leads nowhere in a first pass goes out of the loop's far end and comes in by the near one, where it is counted. Tables 500 and
//! main say "no way" instead: they are also asked whether the router answers ARP for an address.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use lab_cloud::{NetworkPlan, RouteTarget};
use vpc_hostnet::Mark;
use vpc_linux::{RouteKind, RouteSpec, Rtnl, RuleSpec};
use vpc_model::{EniId, RouteTable};

use super::error::Context;
use super::links::NEXT_HOP;
use super::port::Port;
use super::{FIRST_PASS, FabricError, VPC_TABLE};

/// The VPC's CIDRs in the first pass.
const FIRST_PASS_TABLE: RouteTable = RouteTable(501);
/// Two kernel tables for each route table begin here.
const ROUTE_TABLES: u32 = 1000;
/// Preferences of the router's rules.
const PREF_FIRST_PASS: u32 = 90;
const PREF_VPC: u32 = 100;
const PREF_TABLES: u32 = 200;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    /// Out of a link, by index.
    Link(u32),
    /// Nowhere, and nobody is told.
    Blackhole,
}

/// What routes are made from.
pub(super) struct Ways<'a> {
    pub(super) plan: &'a NetworkPlan,
    pub(super) ports: &'a BTreeMap<EniId, Port>,
    /// Links to gateways by the id of the target (`nat-…`, `pcx-…`, `vgw-…`); that to the internet gateway is [`INTERNET`].
    pub(super) links: &'a BTreeMap<String, u32>,
}

/// What the link to the internet gateway is called among links.
pub(super) const INTERNET: &str = "igw";

/// All routes and rules as they stand in the kernel.
#[derive(Debug)]
pub(super) struct Routes {
    /// Indexes of the loop's ends.
    around: (u32, u32),
    /// Numbers of the route tables by id; they are also marks.
    numbers: BTreeMap<String, u32>,
    /// Route tables that have rules.
    ruled: BTreeSet<u32>,
    built: BTreeMap<(RouteTable, Ipv4Net), Hop>,
}

fn tables_of(number: u32) -> [(RouteTable, Mark); 2] {
    let mark = |value| Mark { value, mask: FIRST_PASS | (FIRST_PASS - 1) };
    let first = ROUTE_TABLES + 2 * number;
    [(RouteTable(first), mark(number | FIRST_PASS)), (RouteTable(first + 1), mark(number))]
}

fn rules_of(number: u32) -> [RuleSpec; 2] {
    tables_of(number).map(|(table, mark)| RuleSpec { mark: Some(mark), ..RuleSpec::lookup(PREF_TABLES, table) })
}

impl Routes {
    /// The rules every packet is asked, and nothing behind them yet.
    pub(super) fn install(router: &mut Rtnl, around: (u32, u32)) -> Result<Self, FabricError> {
        let first = Mark { value: FIRST_PASS, mask: FIRST_PASS };
        for rule in [
            RuleSpec { mark: Some(first), ..RuleSpec::lookup(PREF_FIRST_PASS, FIRST_PASS_TABLE) },
            RuleSpec::lookup(PREF_VPC, VPC_TABLE),
        ] {
            router.add_rule(&rule).context("look up the VPC first")?;
        }
        let nowhere = RouteSpec::ending(RouteTable::MAIN, Ipv4Net::default(), RouteKind::Blackhole);
        router.replace_route(&nowhere).context("end the main table")?;
        Ok(Self { around, numbers: BTreeMap::new(), ruled: BTreeSet::new(), built: BTreeMap::new() })
    }

    /// The mark of a route table; 0 (nothing but the VPC) if there is none of that id.
    pub(super) fn mark(&self, route_table: &str) -> u32 {
        self.numbers.get(route_table).copied().unwrap_or(0)
    }

    /// The plan's route tables get their numbers. Call before marks are asked for.
    pub(super) fn number(&mut self, plan: &NetworkPlan) {
        self.numbers.retain(|id, _| plan.route_tables.contains_key(id));
        for id in plan.route_tables.keys() {
            if !self.numbers.contains_key(id) {
                let taken: BTreeSet<_> = self.numbers.values().copied().collect();
                let number = (1..FIRST_PASS).find(|number| !taken.contains(number)).unwrap_or(0);
                self.numbers.insert(id.clone(), number);
            }
        }
    }

    /// A link has gone, and with it all routes over it.
    pub(super) fn forget_link(&mut self, link: u32) {
        self.built.retain(|_, hop| *hop != Hop::Link(link));
    }

    /// Makes the kernel's tables what they should be. What comes, comes before what goes.
    pub(super) fn follow(&mut self, router: &mut Rtnl, ways: &Ways<'_>) -> Result<(), FabricError> {
        let wanted = self.wanted(ways);
        for (place, hop) in &wanted {
            if self.built.get(place) != Some(hop) {
                router
                    .replace_route(&spec(*place, *hop))
                    .context(format!("route {} in table {}", place.1, place.0.0))?;
                self.built.insert(*place, *hop);
            }
        }
        self.follow_rules(router)?;
        let gone: Vec<_> = self.built.keys().filter(|place| !wanted.contains_key(place)).copied().collect();
        for place in gone {
            let Some(hop) = self.built.remove(&place) else { continue };
            match router.delete_route(&spec(place, hop)) {
                Err(e) if !e.is_absent() => {
                    return Err(e).context(format!("no longer route {} in table {}", place.1, place.0.0));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn follow_rules(&mut self, router: &mut Rtnl) -> Result<(), FabricError> {
        let wanted: BTreeSet<_> = self.numbers.values().copied().collect();
        for new in wanted.difference(&self.ruled) {
            for rule in rules_of(*new) {
                router.add_rule(&rule).context("look up a route table")?;
            }
        }
        for gone in self.ruled.difference(&wanted) {
            for rule in rules_of(*gone) {
                router.delete_rule(&rule).context("no longer look up a route table")?;
            }
        }
        self.ruled = wanted;
        Ok(())
    }

    fn wanted(&self, ways: &Ways<'_>) -> BTreeMap<(RouteTable, Ipv4Net), Hop> {
        let (into_loop, nowhere) = (Hop::Link(self.around.0), Hop::Link(self.around.1));
        let mut wanted = BTreeMap::new();
        for cidr in &ways.plan.cidrs {
            wanted.insert((VPC_TABLE, *cidr), Hop::Blackhole);
            wanted.insert((FIRST_PASS_TABLE, *cidr), into_loop);
        }
        for gateway in &ways.plan.nat_gateways {
            let Some(link) = ways.links.get(&gateway.id) else { continue };
            for table in [VPC_TABLE, FIRST_PASS_TABLE] {
                wanted.insert((table, gateway.private_ip.into()), Hop::Link(*link));
            }
        }
        for (id, routes) in &ways.plan.route_tables {
            let [(first, _), (second, _)] = tables_of(self.mark(id));
            for table in [first, second] {
                wanted.insert((table, Ipv4Net::default()), nowhere);
            }
            for route in routes {
                let gateway = |id: &str| ways.links.get(id).map(|link| (Hop::Link(*link), Hop::Link(*link)));
                let hops = match &route.target {
                    // They come before all others, whatever the table.
                    RouteTarget::Local => continue,
                    RouteTarget::InternetGateway => gateway(INTERNET),
                    RouteTarget::NatGateway(id) | RouteTarget::Peering(id) | RouteTarget::VirtualGateway(id) => {
                        gateway(id)
                    }
                    // A packet for somebody else is dropped at a port whose check is on: so it need not go there.
                    RouteTarget::NetworkInterface(eni) => {
                        let port = ways.ports.get(eni).filter(|port| !port.check);
                        port.map(|port| (into_loop, Hop::Link(port.index)))
                    }
                    RouteTarget::Blackhole => None,
                };
                let (in_first, in_second) = hops.unwrap_or((nowhere, nowhere));
                wanted.insert((first, route.destination), in_first);
                wanted.insert((second, route.destination), in_second);
            }
        }
        wanted
    }
}

/// Whether a route of the plan leads to this ENI.
pub(super) fn leads_to(plan: &NetworkPlan, eni: &EniId) -> bool {
    let mut routes = plan.route_tables.values().flatten();
    routes.any(|route| matches!(&route.target, RouteTarget::NetworkInterface(target) if target == eni))
}

fn spec((table, to): (RouteTable, Ipv4Net), hop: Hop) -> RouteSpec {
    match hop {
        Hop::Link(link) => RouteSpec { onlink: true, ..RouteSpec::through(table, to, NEXT_HOP, link) },
        Hop::Blackhole => RouteSpec::ending(table, to, RouteKind::Blackhole),
    }
}
