//! The fabric follows the plan: what has come is built, what has gone is taken away, the rest is left alone.
//!
//! ```text
//!   NetworkPlan -> CIDRs (internet gateway) -> NAT gateways -> routing tables -> marks of ports and gateways
//!               -> security groups
//! ```
//!
//! Each step compares with what it has built itself; a step that failed is taken up again by the next plan.

use lab_cloud::NetworkPlan;
use vpc_model::SubnetId;

use super::error::Context;
use super::gateways::NatGateway;
use super::port::Port;
use super::routes::{Ways, leads_to};
use super::{FabricError, Inner};

/// A gateway that is tied to the router: packets come in by its link without source check or groups.
#[derive(Clone, Debug)]
pub(super) struct GatewayLink {
    /// Index of its link.
    pub(super) index: u32,
    /// The subnet whose route table its packets take; `None`: they only reach the VPC's own addresses.
    pub(super) subnet: Option<SubnetId>,
    /// Connections through it are tracked whatever the rules.
    pub(super) tracked: bool,
    /// The mark its packets have.
    mark: u32,
}

impl Inner {
    pub(super) fn set_network(&mut self, plan: &NetworkPlan) -> Result<(), FabricError> {
        self.plan = plan.clone();
        self.gateway.set_cidrs(&plan.cidrs)?;
        self.routes.number(plan);
        self.follow_nat_gateways()?;
        self.follow_routes()?;
        self.follow_marks()?;
        self.filter.set_groups(&plan.groups)
    }

    /// A gateway's link: from now on routes to that target lead there, and its packets are let in.
    pub(super) fn tie_in(
        &mut self,
        target: &str,
        index: u32,
        subnet: Option<SubnetId>,
        tracked: bool,
    ) -> Result<(), FabricError> {
        let mark = subnet.as_ref().map_or(0, |subnet| self.mark_of(subnet));
        self.filter.admit_gateway(index, mark, tracked)?;
        self.links.insert(target.to_owned(), index);
        self.gateway_links.insert(target.to_owned(), GatewayLink { index, subnet, tracked, mark });
        Ok(())
    }

    /// Undoes [`Inner::tie_in`] and deletes the link.
    pub(super) fn untie(&mut self, target: &str) -> Result<(), FabricError> {
        let Some(link) = self.gateway_links.remove(target) else { return Ok(()) };
        self.links.remove(target);
        let expelled = self.filter.expel_gateway(link.index, link.mark, link.tracked);
        self.routes.forget_link(link.index);
        match self.router.delete_link(link.index) {
            Err(e) if !e.is_absent() => Err(e).context(format!("take the link to {target} away")),
            _ => expelled,
        }
    }

    /// The mark of a subnet's route table.
    pub(super) fn mark_of(&self, subnet: &SubnetId) -> u32 {
        self.plan.subnets.get(subnet).map_or(0, |planned| self.routes.mark(&planned.route_table))
    }

    /// Routing tables as plan, ports and gateways want them.
    pub(super) fn follow_routes(&mut self) -> Result<(), FabricError> {
        let ways = Ways { plan: &self.plan, ports: &self.ports, links: &self.links };
        self.routes.follow(&mut self.router, &ways)
    }

    /// The same, if a route leads to that ENI, which has come, gone or changed.
    pub(super) fn follow_routes_to(&mut self, eni: &vpc_model::EniId) -> Result<(), FabricError> {
        if leads_to(&self.plan, eni) { self.follow_routes() } else { Ok(()) }
    }

    fn follow_nat_gateways(&mut self) -> Result<(), FabricError> {
        let wanted = self.plan.nat_gateways.clone();
        let gone: Vec<_> =
            self.nat_gateways.iter().filter(|(_, nat)| !wanted.contains(&nat.spec)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            if let Some(nat) = self.nat_gateways.remove(&id) {
                self.gateway.map(nat.spec.private_ip, None)?;
                self.untie(&id)?;
            }
        }
        for spec in &wanted {
            if self.nat_gateways.contains_key(&spec.id) {
                continue;
            }
            let taken = |number: &u32| self.nat_gateways.values().any(|nat| nat.number == *number);
            let number = (0..).find(|number| !taken(number)).unwrap_or_default();
            let nat = NatGateway::build(&self.router_ns, number, spec)?;
            self.tie_in(&spec.id, nat.link, Some(spec.subnet.clone()), true)?;
            self.gateway.map(spec.private_ip, Some(spec.public_ip))?;
            self.nat_gateways.insert(spec.id.clone(), nat);
        }
        Ok(())
    }

    /// Subnets may have other route tables now.
    fn follow_marks(&mut self) -> Result<(), FabricError> {
        let marks: Vec<_> = self.ports.iter().map(|(eni, port)| (eni.clone(), self.mark_of(&port.subnet))).collect();
        for (eni, mark) in marks {
            let Some(port) = self.ports.get_mut(&eni).filter(|port| port.mark != mark) else { continue };
            let now = Port { mark, ..port.clone() };
            self.filter.change(port, &now)?;
            *port = now;
        }
        let targets: Vec<_> = self.gateway_links.iter().map(|(id, link)| (id.clone(), link.subnet.clone())).collect();
        for (target, subnet) in targets {
            let mark = subnet.as_ref().map_or(0, |subnet| self.mark_of(subnet));
            if let Some(link) = self.gateway_links.get_mut(&target).filter(|link| link.mark != mark) {
                self.filter.mark_gateway(link.index, mark)?;
                link.mark = mark;
            }
        }
        Ok(())
    }
}
