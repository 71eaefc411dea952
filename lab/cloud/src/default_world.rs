//! The world one gets without asking for another: three m5.large nodes in three zones, private subnets behind a NAT gateway.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::Subnet;

use crate::spec::{
    InstanceSpec, NatGatewaySpec, RouteSpec, RouteTableSpec, RouteTarget, SecurityGroupSpec, SubnetSpec, Tags, VpcSpec,
    WorldSpec, ZoneSpec, id_for, id_text,
};

/// Addresses given to whoever needs a public one: TEST-NET-2 of RFC 5737, never routed on the real internet.
pub const PUBLIC_POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24);
/// What the NAT gateway looks like from outside: out of TEST-NET-3.
pub const NAT_PUBLIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Where internet-wide routes lead to.
const EVERYWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
/// Zones of the default region.
const ZONES: [&str; 3] = ["a", "b", "c"];

impl WorldSpec {
    /// The default topology: region us-west-2, VPC 10.20.0.0/16 with the secondary CIDR 100.64.0.0/16; in each of three
    /// zones a public /24 (`public-a`), a private /22 (`private-a`) and a /18 of the secondary CIDR (`pods-a`); nodes
    /// `node-1`, `node-2`, `node-3`, one in each private subnet.
    #[must_use]
    pub fn default_topology() -> Self {
        let region = "us-west-2";
        let public = subnets(region, "public", Ipv4Addr::new(10, 20, 0, 0), 24);
        let private = subnets(region, "private", Ipv4Addr::new(10, 20, 8, 0), 22);
        let pods = subnets(region, "pods", Ipv4Addr::new(100, 64, 0, 0), 18);
        let nat = NatGatewaySpec {
            id: id_text("nat-", "nat"),
            subnet: id_for("public-a"),
            private_ip: Ipv4Addr::new(10, 20, 0, 10),
            public_ip: NAT_PUBLIC_IP,
        };
        let to_nat = RouteSpec { destination: EVERYWHERE, target: RouteTarget::NatGateway(nat.id.clone()) };
        let to_internet = RouteSpec { destination: EVERYWHERE, target: RouteTarget::InternetGateway };
        Self {
            region: region.to_owned(),
            account_id: "111122223333".to_owned(),
            vpc: VpcSpec {
                id: id_for("vpc"),
                cidrs: vec![
                    Ipv4Net::new_assert(Ipv4Addr::new(10, 20, 0, 0), 16),
                    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 16),
                ],
                tags: Tags::from([("Name".to_owned(), "lab".to_owned())]),
            },
            zones: ZONES
                .iter()
                .zip(1..)
                .map(|(zone, n)| ZoneSpec { name: format!("{region}{zone}"), id: format!("usw2-az{n}") })
                .collect(),
            route_tables: vec![
                RouteTableSpec {
                    id: id_text("rtb-", "private"),
                    main: true,
                    subnets: Vec::new(),
                    routes: vec![to_nat],
                },
                RouteTableSpec {
                    id: id_text("rtb-", "public"),
                    main: false,
                    subnets: public.iter().map(|subnet| subnet.id.clone()).collect(),
                    routes: vec![to_internet],
                },
            ],
            instances: private
                .iter()
                .zip(1..)
                .map(|(subnet, n)| InstanceSpec::new(&format!("node-{n}"), "m5.large", subnet.id.clone()))
                .collect(),
            subnets: public
                .into_iter()
                .map(|subnet| SubnetSpec { map_public_ip: true, ..subnet })
                .chain(private)
                .chain(pods)
                .collect(),
            internet_gateway: Some(id_text("igw-", "igw")),
            nat_gateways: vec![nat],
            security_groups: vec![SecurityGroupSpec::default_group("default"), SecurityGroupSpec::new("nodes")],
            peerings: Vec::new(),
            virtual_gateway: None,
            endpoints: Vec::new(),
            roles: Vec::new(),
            public_pool: PUBLIC_POOL,
        }
    }
}

/// One subnet in each zone, one after another from `first`.
fn subnets(region: &str, kind: &str, first: Ipv4Addr, length: u8) -> Vec<SubnetSpec> {
    let size = 1_u32 << (32 - u32::from(length));
    let nets = (0..).map(|n| Ipv4Net::new_assert(Ipv4Addr::from_bits(first.to_bits() + n * size), length));
    ZONES
        .iter()
        .zip(nets.filter_map(|net| Subnet::try_from(net).ok()))
        .map(|(zone, cidr)| SubnetSpec::new(&format!("{kind}-{zone}"), cidr, &format!("{region}{zone}")))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_default_world_is_one_ec2_would_take() {
        let world = WorldSpec::default_topology();
        world.check().unwrap();
        let cidrs: Vec<_> = world.subnets.iter().map(|s| s.cidr.to_string()).collect();
        assert_eq!(cidrs[3..6], ["10.20.8.0/22", "10.20.12.0/22", "10.20.16.0/22"]);
        assert_eq!(cidrs[6..], ["100.64.0.0/18", "100.64.64.0/18", "100.64.128.0/18"]);
        assert!(world.is_public(&id_for("public-b")) && !world.is_public(&id_for("private-b")));
    }
}
