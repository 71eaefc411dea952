//! The topology as EC2 knows it.

use std::collections::BTreeMap;

use lab_cloud::{
    EndpointSpec, InstanceSpec, NatGatewaySpec, PeeringSpec, RouteSpec, RouteTableSpec, RouteTarget, Tags,
    VirtualGatewaySpec, VpcSpec, WorldSpec, ZoneSpec, id_for, id_text,
};
use vpc_model::InstanceId;

use super::{Endpoint, NodeSpec, OnPremises, Peering, SecurityGroup, Target, Topology};

/// The lab's account.
const ACCOUNT: &str = "123456789012";
/// What every id that belongs to the VPC itself is made from.
const VPC_NAME: &str = "lab";

impl Topology {
    /// The ids of its zones, by name.
    pub(crate) fn zone_ids(&self) -> BTreeMap<String, String> {
        self.zones.iter().enumerate().map(|(at, name)| (name.clone(), zone_id(&self.region, at))).collect()
    }

    /// What EC2 knows of it.
    #[must_use]
    pub fn world(&self) -> WorldSpec {
        WorldSpec {
            region: self.region.clone(),
            account_id: ACCOUNT.to_owned(),
            vpc: VpcSpec {
                id: id_for(VPC_NAME),
                cidrs: self.cidrs.clone(),
                tags: Tags::from([("Name".to_owned(), VPC_NAME.to_owned())]),
            },
            zones: self.zones.iter().enumerate().map(|(i, name)| self.zone(i, name)).collect(),
            subnets: self.subnets.iter().map(subnet).collect(),
            route_tables: self.cloud_route_tables(),
            internet_gateway: Some(id_text("igw-", VPC_NAME)),
            nat_gateways: self.nat_gateways.iter().map(nat_gateway).collect(),
            security_groups: self.security_groups.iter().map(SecurityGroup::cloud).collect(),
            peerings: self.peerings.iter().map(peering).collect(),
            virtual_gateway: self.on_premises.as_ref().map(|network| self.virtual_gateway(network)),
            endpoints: self.endpoints.iter().map(|endpoint| self.cloud_endpoint(endpoint)).collect(),
            roles: self.roles(),
            instances: self.nodes.iter().map(instance).collect(),
            public_pool: self.public_pool,
        }
    }

    /// The node that an instance is.
    #[must_use]
    pub fn node_of(&self, instance: &InstanceId) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.instance_id() == *instance)
    }

    /// The id of the virtual private gateway.
    #[must_use]
    pub fn virtual_gateway_id(&self) -> String {
        id_text("vgw-", VPC_NAME)
    }

    /// A route's target as EC2 names it.
    #[must_use]
    pub fn cloud_target(&self, target: &Target) -> RouteTarget {
        match target {
            Target::InternetGateway => RouteTarget::InternetGateway,
            Target::NatGateway(name) => RouteTarget::NatGateway(id_text("nat-", name)),
            Target::Peering(name) => RouteTarget::Peering(id_text("pcx-", name)),
            Target::VirtualGateway => RouteTarget::VirtualGateway(self.virtual_gateway_id()),
            Target::Blackhole => RouteTarget::Blackhole,
        }
    }

    /// The service as EC2 names it: `com.amazonaws.<region>.<service>`.
    #[must_use]
    pub fn service_name(&self, service: &str) -> String {
        format!("com.amazonaws.{}.{service}", self.region)
    }

    /// The name that a service is known by: `sts.<region>.amazonaws.com`.
    #[must_use]
    pub fn service_host(&self, service: &str) -> String {
        format!("{service}.{}.amazonaws.com", self.region)
    }

    fn virtual_gateway(&self, network: &OnPremises) -> VirtualGatewaySpec {
        VirtualGatewaySpec { id: self.virtual_gateway_id(), cidrs: network.cidrs.clone() }
    }

    fn cloud_endpoint(&self, endpoint: &Endpoint) -> EndpointSpec {
        EndpointSpec {
            id: id_text("vpce-", &format!("{} in {}", endpoint.service, endpoint.subnet)),
            service: self.service_name(&endpoint.service),
            subnet: id_for(&endpoint.subnet),
            private_ip: endpoint.private_ip,
            security_groups: endpoint.security_groups.iter().map(|name| id_for(name)).collect(),
        }
    }

    fn zone(&self, index: usize, name: &str) -> ZoneSpec {
        ZoneSpec { name: name.to_owned(), id: zone_id(&self.region, index) }
    }

    fn cloud_route_tables(&self) -> Vec<RouteTableSpec> {
        let main = RouteTableSpec { id: id_text("rtb-", "main"), main: true, subnets: Vec::new(), routes: Vec::new() };
        let own = self.route_tables.iter().map(|table| RouteTableSpec {
            id: id_text("rtb-", &table.name),
            main: false,
            subnets: self.subnets.iter().filter(|s| s.route_table == table.name).map(|s| id_for(&s.name)).collect(),
            routes: table
                .routes
                .iter()
                .map(|(to, via)| RouteSpec { destination: *to, target: self.cloud_target(via) })
                .collect(),
        });
        std::iter::once(main).chain(own).collect()
    }
}

impl NodeSpec {
    /// The instance it is.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        id_for(&self.name)
    }
}

fn subnet(spec: &super::SubnetSpec) -> lab_cloud::SubnetSpec {
    let plain = lab_cloud::SubnetSpec::new(&spec.name, spec.cidr, &spec.zone);
    lab_cloud::SubnetSpec {
        map_public_ip: spec.map_public_ip,
        reservations: super::cloud::reservations(&spec.reservations),
        tags: spec.tags.clone(),
        ..plain
    }
}

fn nat_gateway(gateway: &super::NatGateway) -> NatGatewaySpec {
    NatGatewaySpec {
        id: id_text("nat-", &gateway.name),
        subnet: id_for(&gateway.subnet),
        private_ip: gateway.private_ip,
        public_ip: gateway.public_ip,
    }
}

fn peering(peering: &Peering) -> PeeringSpec {
    PeeringSpec { id: id_text("pcx-", &peering.name), name: peering.name.clone(), cidrs: peering.cidrs.clone() }
}

fn instance(node: &NodeSpec) -> InstanceSpec {
    InstanceSpec {
        private_ip: node.private_ip,
        public_ip: node.public_ip,
        hop_limit: node.hop_limit,
        role: Some(node.role.clone()),
        tokens_required: node.tokens_required,
        metadata_tags: node.metadata_tags,
        tags: node.tags.clone(),
        security_groups: node.security_groups.iter().map(|name| id_for(name)).collect(),
        ..InstanceSpec::new(&node.name, &node.instance_type, id_for(&node.subnet))
    }
}

/// Id of a zone: `apne2-az1` for the first of `ap-northeast-2`, the region's words cut short and its number, then the zone's.
fn zone_id(region: &str, index: usize) -> String {
    let words = region.split('-').enumerate();
    let short = words.map(|(at, word)| match word {
        "northeast" => "ne",
        "northwest" => "nw",
        "southeast" => "se",
        "southwest" => "sw",
        word if at == 0 => word,
        word => word.get(..1).unwrap_or(word),
    });
    format!("{}-az{}", short.collect::<String>(), index + 1)
}

#[cfg(test)]
mod tests {
    use super::zone_id;

    #[test]
    fn zones_have_the_ids_that_aws_gives_them() {
        // Published by AWS in its lists of zones.
        for (region, id) in [
            ("ap-northeast-2", "apne2-az1"),
            ("us-east-1", "use1-az1"),
            ("eu-central-1", "euc1-az1"),
            ("us-gov-west-1", "usgw1-az1"),
            ("ap-southeast-1", "apse1-az1"),
            ("ca-central-1", "cac1-az1"),
        ] {
            assert_eq!(zone_id(region, 0), id);
        }
    }
}
