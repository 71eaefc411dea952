//! The topology as EC2 knows it.

use lab_cloud::{
    InstanceSpec, NatGatewaySpec, RouteSpec, RouteTableSpec, RouteTarget, SecurityGroupSpec, Tags, VpcSpec, WorldSpec,
    ZoneSpec, id_for, id_text,
};
use vpc_model::InstanceId;

use super::{NodeSpec, Target, Topology};

/// The lab's account.
const ACCOUNT: &str = "123456789012";
/// What every id that belongs to the VPC itself is made from.
const VPC_NAME: &str = "lab";

impl Topology {
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
            security_groups: vec![SecurityGroupSpec::default_group("default")],
            peerings: Vec::new(),
            virtual_gateway: None,
            endpoints: Vec::new(),
            roles: Vec::new(),
            instances: self.nodes.iter().map(instance).collect(),
            public_pool: self.public_pool,
        }
    }

    /// The node that an instance is.
    #[must_use]
    pub fn node_of(&self, instance: &InstanceId) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.instance_id() == *instance)
    }

    fn zone(&self, index: usize, name: &str) -> ZoneSpec {
        // `apne2-az1` for `ap-northeast-2a`: the region's initials, its number, and the zone's.
        let initials: String = self.region.split('-').map(|word| word.chars().take(2).collect::<String>()).collect();
        ZoneSpec { name: name.to_owned(), id: format!("{initials}-az{}", index + 1) }
    }

    fn cloud_route_tables(&self) -> Vec<RouteTableSpec> {
        let main = RouteTableSpec { id: id_text("rtb-", "main"), main: true, subnets: Vec::new(), routes: Vec::new() };
        let own = self.route_tables.iter().map(|table| RouteTableSpec {
            id: id_text("rtb-", &table.name),
            main: false,
            subnets: self.subnets.iter().filter(|s| s.route_table == table.name).map(|s| id_for(&s.name)).collect(),
            routes: table.routes.iter().map(|(to, via)| RouteSpec { destination: *to, target: target(via) }).collect(),
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
    lab_cloud::SubnetSpec { map_public_ip: spec.map_public_ip, ..plain }
}

fn nat_gateway(gateway: &super::NatGateway) -> NatGatewaySpec {
    NatGatewaySpec {
        id: id_text("nat-", &gateway.name),
        subnet: id_for(&gateway.subnet),
        private_ip: gateway.private_ip,
        public_ip: gateway.public_ip,
    }
}

fn target(target: &Target) -> RouteTarget {
    match target {
        Target::InternetGateway => RouteTarget::InternetGateway,
        Target::NatGateway(name) => RouteTarget::NatGateway(id_text("nat-", name)),
        Target::Blackhole => RouteTarget::Blackhole,
    }
}

fn instance(node: &NodeSpec) -> InstanceSpec {
    InstanceSpec {
        private_ip: node.private_ip,
        public_ip: node.public_ip,
        hop_limit: node.hop_limit,
        ..InstanceSpec::new(&node.name, &node.instance_type, id_for(&node.subnet))
    }
}
