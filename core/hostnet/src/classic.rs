//! The reference's layout: a /32 route in main and one or two rules for each pod.
//!
//! ```text
//!   512:   to <pod> lookup main        whatever the source or mark: main knows the pod's veth
//!   1536:  from <pod> lookup N         a pod of a secondary ENI leaves by it; none for pods of the primary one
//!   main:  <pod> dev <host veth> scope link
//! ```

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{LinkName, RouteTable};

use crate::{HostLayout, Route, Rule, priority};

/// What a layout has to say. All that depends on the layout is behind this; a second one is a second implementation.
pub(crate) trait Layout {
    /// The route that delivers to a pod.
    fn pod_route(&self, address: Ipv4Addr, host_link: &LinkName) -> Route;
    /// The rules that make the pod routed, in the order in which they are added.
    fn pod_rules(&self, address: Ipv4Addr, table: RouteTable) -> Vec<Rule>;
    /// The pod a rule is about, if the rule has the shape this layout (and no one else) gives to pods' rules.
    fn pod_of_rule(&self, rule: &Rule) -> Option<Ipv4Addr>;
    /// The pod a route delivers to, if the route has the shape this layout gives to pods' routes. The link is not judged here.
    fn pod_of_route(&self, route: &Route) -> Option<Ipv4Addr>;
}

/// The implementation of a layout.
pub(crate) fn layout(layout: HostLayout) -> &'static dyn Layout {
    match layout {
        HostLayout::Classic => &Classic,
    }
}

struct Classic;

impl Layout for Classic {
    fn pod_route(&self, address: Ipv4Addr, host_link: &LinkName) -> Route {
        Route::on_link(RouteTable::MAIN, host(address), host_link.clone())
    }

    fn pod_rules(&self, address: Ipv4Addr, table: RouteTable) -> Vec<Rule> {
        let to = Rule { to: Some(host(address)), ..bare(priority::TO_POD, RouteTable::MAIN) };
        let from = Rule { from: Some(host(address)), ..bare(priority::FROM_POD, table) };
        if table == RouteTable::MAIN { vec![to] } else { vec![to, from] }
    }

    fn pod_of_rule(&self, rule: &Rule) -> Option<Ipv4Addr> {
        if rule.mark.is_some() || rule.iif.is_some() {
            return None;
        }
        match (rule.priority, rule.from, rule.to) {
            (priority::TO_POD, None, Some(to)) if rule.table == RouteTable::MAIN => single(to),
            // Old daemons wrote one of these for each VPC CIDR (`from <pod> to <cidr>`).
            (priority::FROM_POD, Some(from), _) => single(from),
            _ => None,
        }
    }

    fn pod_of_route(&self, route: &Route) -> Option<Ipv4Addr> {
        let direct = route.table == RouteTable::MAIN && route.via.is_none();
        if direct { single(route.to) } else { None }
    }
}

/// A rule that matches everything.
pub(crate) fn bare(priority: u32, table: RouteTable) -> Rule {
    Rule { priority, from: None, to: None, mark: None, iif: None, table }
}

/// The address as a network of its own.
pub(crate) fn host(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}

/// The address of a network that holds but one.
pub(crate) fn single(net: Ipv4Net) -> Option<Ipv4Addr> {
    (net.prefix_len() == 32).then(|| net.addr())
}
