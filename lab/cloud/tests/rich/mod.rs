//! A world with two of everything, each object with a short name, so that every filter has something to select and something
//! to leave out.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::{BTreeMap, BTreeSet};

use lab_cloud::{
    ApiError, EndpointSpec, ExtraEniSpec, GroupRule, InstanceSpec, PeeringSpec, Profile, ReservationKind,
    ReservationSpec, RouteSpec, RouteTableSpec, RouteTarget, RulePeer, SecurityGroupSpec, Span, SubnetSpec, Tags,
    Traffic, VirtualGatewaySpec, WorldSpec, id_for, id_text,
};
use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, CreateNetworkInterface, CreateTags, DetachNetworkInterface, Instance, NetworkInterface,
    Query, Tag, VERSION,
};
use vpc_model::{CardIndex, DeviceIndex, Millis};

use crate::common::{Lab, instance, subnet};

/// When the second half of the world came to be: a day, an hour, a minute and a second after the first.
pub(crate) const LATER: Millis = Millis::seconds(90_061);
pub(crate) const PEERING: &str = "pcx-0123456789abcdef0";
pub(crate) const GATEWAY: &str = "vgw-0123456789abcdef0";

/// The world, and short names for the ids of what is in it.
pub(crate) struct Rich {
    pub(crate) lab: Lab,
    /// Name to id.
    ids: BTreeMap<String, String>,
}

impl Rich {
    pub(crate) fn new() -> Self {
        let hour = Span::exactly(Millis::seconds(3600));
        let profile = Profile { guest_sees: hour, detached: hour, ..Profile::instant() };
        let mut world = Self { lab: Lab::new(spec(), profile, 1), ids: BTreeMap::new() };
        world.name_the_network();
        world.name_the_nodes();
        world.lab.pass(LATER.0);
        world.make_enis();
        world.make_instances();
        world.make_tags();
        world
    }

    /// Calls an action with parameters as they go over the wire.
    pub(crate) fn call(&mut self, action: &str, parameters: &[(&str, &str)]) -> Result<AnyResponse, ApiError> {
        let mut query = Query::default();
        query.push("Action", action);
        query.push("Version", VERSION);
        parameters.iter().for_each(|(name, value)| query.push(*name, *value));
        let request = AnyRequest::from_query(&query).map_err(ApiError::from)?;
        self.lab.call(request)
    }

    /// The id of that name.
    pub(crate) fn id(&self, name: &str) -> String {
        self.ids.get(name).unwrap_or_else(|| panic!("nothing is called {name}")).clone()
    }

    /// The name of that id; the id itself if it has none.
    pub(crate) fn name_of(&self, id: &str) -> String {
        self.ids.iter().find(|(_, own)| *own == id).map_or(id, |(name, _)| name).to_owned()
    }

    pub(crate) fn eni(&mut self, name: &str) -> NetworkInterface {
        self.lab.show(&self.id(name).parse().unwrap())
    }

    pub(crate) fn instance(&mut self, name: &str) -> Instance {
        let id = self.id(name);
        match self.call("DescribeInstances", &[("InstanceId.1", &id)]).unwrap() {
            AnyResponse::DescribeInstances(mut answer) => answer.reservations.remove(0).instances.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn reservation_of(&mut self, name: &str) -> String {
        let id = self.id(name);
        match self.call("DescribeInstances", &[("InstanceId.1", &id)]).unwrap() {
            AnyResponse::DescribeInstances(mut answer) => answer.reservations.remove(0).reservation_id,
            other => panic!("{other:?}"),
        }
    }

    /// What ties a subnet to its route table.
    pub(crate) fn association_of(&mut self, name: &str) -> String {
        let id = self.id(name);
        let AnyResponse::DescribeRouteTables(answer) = self.call("DescribeRouteTables", &[]).unwrap() else { panic!() };
        let mut ties = answer.route_tables.into_iter().flat_map(|table| table.associations);
        let tie = ties.find(|tie| tie.subnet_id.as_ref().is_some_and(|own| own.as_str() == id));
        tie.unwrap().route_table_association_id
    }

    /// The names of what an answer lists.
    pub(crate) fn names(&self, answer: &AnyResponse) -> BTreeSet<String> {
        use AnyResponse as A;
        let ids: Vec<String> = match answer {
            A::DescribeAvailabilityZones(own) => own.availability_zones.iter().map(|z| z.zone_name.clone()).collect(),
            A::DescribeInstanceStatus(own) => own.instance_statuses.iter().map(|s| s.instance_id.to_string()).collect(),
            A::DescribeInstanceTypes(own) => own.instance_types.iter().map(|t| t.instance_type.clone()).collect(),
            A::DescribeInstances(own) => {
                let instances = own.reservations.iter().flat_map(|launch| &launch.instances);
                instances.map(|instance| instance.instance_id.to_string()).collect()
            }
            A::DescribeNetworkInterfaces(own) => {
                own.network_interfaces.iter().map(|eni| eni.network_interface_id.to_string()).collect()
            }
            A::DescribeRouteTables(own) => own.route_tables.iter().map(|table| table.route_table_id.clone()).collect(),
            A::DescribeSecurityGroupRules(own) => {
                own.rules.iter().map(|rule| rule.security_group_rule_id.clone()).collect()
            }
            A::DescribeSecurityGroups(own) => own.security_groups.iter().map(|g| g.group_id.to_string()).collect(),
            A::DescribeSubnets(own) => own.subnets.iter().map(|subnet| subnet.subnet_id.to_string()).collect(),
            A::DescribeTags(own) => {
                let name = |id: &str| self.name_of(id);
                own.tags.iter().map(|tag| format!("{} {}", name(&tag.resource_id), tag.key)).collect()
            }
            A::DescribeVpcs(own) => own.vpcs.iter().map(|vpc| vpc.vpc_id.to_string()).collect(),
            A::GetSubnetCidrReservations(own) => {
                own.ipv4_reservations.iter().map(|own| own.subnet_cidr_reservation_id.clone()).collect()
            }
            other => panic!("{} lists nothing", other.name()),
        };
        ids.iter().map(|id| self.name_of(id)).collect()
    }

    fn name(&mut self, name: &str, id: &str) {
        assert_eq!(self.ids.insert(name.to_owned(), id.to_owned()), None, "two objects are called {name}");
    }

    fn name_the_network(&mut self) {
        let spec = self.lab.cloud.spec().clone();
        self.name("vpc", spec.vpc.id.as_str());
        spec.subnets.iter().for_each(|own| self.name(&own.name, own.id.as_str()));
        spec.security_groups.iter().for_each(|own| self.name(&own.name, own.id.as_str()));
        spec.zones.iter().for_each(|zone| self.name(&format!("zone {}", zone.id), &zone.name));
        for table in ["private", "public", "crossing"] {
            self.name(table, &id_text("rtb-", table));
        }
        for (name, cidr) in [("for prefixes", "100.64.1.0/24"), ("by hand", "100.64.2.0/24")] {
            self.name(name, &id_text("scr-", &format!("{} {cidr}", subnet("pods-a"))));
        }
        let AnyResponse::DescribeSecurityGroupRules(answer) = self.call("DescribeSecurityGroupRules", &[]).unwrap()
        else {
            panic!()
        };
        for rule in answer.rules {
            let (group, way) = (self.name_of(rule.group_id.as_str()), if rule.is_egress { "out" } else { "in" });
            self.name(&format!("{group} {way} {}", rule.ip_protocol), &rule.security_group_rule_id);
        }
    }

    fn name_the_nodes(&mut self) {
        let snapshot = self.lab.cloud.snapshot(self.lab.now);
        for node in &snapshot.instances {
            self.name(&node.name, node.id.as_str());
            for (eni, kind) in node.enis.iter().zip(["eni", "extra"]) {
                self.name(&node.name.replace("node", kind), eni.as_str());
            }
        }
        for eni in snapshot.enis.iter().filter(|eni| eni.service.is_some()) {
            self.name(if eni.interface_type == "nat_gateway" { "nat" } else { "endpoint" }, eni.id.as_str());
        }
    }

    /// `loose` is attached to nothing, `coming` and `going` are on their way to and from node-2.
    fn make_enis(&mut self) {
        for (name, place) in [("loose", "private-a"), ("coming", "private-b"), ("going", "private-b")] {
            let mut request = CreateNetworkInterface::new(subnet(place));
            request.description = Some(format!("is {name}"));
            let id = self.lab.create(request).unwrap().network_interface_id;
            self.name(name, id.as_str());
        }
        let id = |world: &Self, name: &str| world.id(name).parse().unwrap();
        self.lab.attach(&id(self, "coming"), "node-2", 2).unwrap();
        let attachment_id = self.lab.attach(&id(self, "going"), "node-2", 3).unwrap();
        self.lab.call(DetachNetworkInterface { attachment_id, force: None, dry_run: None }).unwrap();
        for name in ["loose", "eni-3"] {
            let eni = self.id(name);
            let parameters = [("NetworkInterfaceId", eni.as_str()), ("SourceDestCheck.Value", "false")];
            self.call("ModifyNetworkInterfaceAttribute", &parameters).unwrap();
        }
    }

    /// node-3 is stopped, node-4 terminated; `run-0` and `run-1` are launched together; a route leads through node-1.
    fn make_instances(&mut self) {
        self.lab.cloud.power(self.lab.now, &instance("node-3"), false).unwrap();
        self.lab.cloud.terminate(self.lab.now, &instance("node-4")).unwrap();
        let place = self.id("pods-a");
        let parameters = [
            ("ImageId", "ami-0aaaaaaaaaaaaaaaa"),
            ("MinCount", "2"),
            ("MaxCount", "2"),
            ("InstanceType", "t2.medium"),
            ("KeyName", "lab"),
            ("ClientToken", "only once"),
            ("SubnetId", &place),
        ];
        let AnyResponse::RunInstances(launch) = self.call("RunInstances", &parameters).unwrap() else { panic!() };
        for own in launch.instances {
            let index = own.ami_launch_index.unwrap();
            self.name(&format!("run-{index}"), own.instance_id.as_str());
            self.name(&format!("run-eni-{index}"), own.network_interfaces[0].network_interface_id.as_str());
        }
        let (table, eni) = (self.id("crossing"), self.id("eni-1"));
        let parameters =
            [("RouteTableId", &*table), ("DestinationCidrBlock", "10.98.0.0/16"), ("NetworkInterfaceId", &eni)];
        self.call("CreateRoute", &parameters).unwrap();
        self.lab.pass(1);
    }

    fn make_tags(&mut self) {
        for (name, value) in [("loose", "leaked"), ("crossing", "table"), ("web in tcp", "rule"), ("by hand", "part")] {
            let resources = vec![self.id(name)];
            self.lab.call(CreateTags { resources, tags: vec![Tag::new("mark", value)], dry_run: None }).unwrap();
        }
    }
}

fn spec() -> WorldSpec {
    let mut spec = WorldSpec::default_topology();
    spec.vpc.tags.insert("mark".to_owned(), "network".to_owned());
    spec.subnets.iter_mut().filter(|own| own.name == "pods-a").for_each(add_reservations);
    spec.peerings =
        vec![PeeringSpec { id: PEERING.to_owned(), name: "peer".to_owned(), cidrs: vec![net("10.30.0.0/16")] }];
    spec.virtual_gateway = Some(VirtualGatewaySpec { id: GATEWAY.to_owned(), cidrs: vec![net("192.168.0.0/16")] });
    spec.route_tables.push(RouteTableSpec {
        id: id_text("rtb-", "crossing"),
        main: false,
        subnets: vec![subnet("pods-b")],
        routes: [
            ("10.30.0.0/16", RouteTarget::Peering(PEERING.to_owned())),
            ("192.168.0.0/16", RouteTarget::VirtualGateway(GATEWAY.to_owned())),
            ("10.99.0.0/16", RouteTarget::Blackhole),
        ]
        .map(|(destination, target)| RouteSpec { destination: net(destination), target })
        .into(),
    });
    spec.security_groups.push(web());
    spec.endpoints = vec![EndpointSpec {
        id: "vpce-0123456789abcdef0".to_owned(),
        service: "com.amazonaws.us-west-2.sts".to_owned(),
        subnet: subnet("private-c"),
        private_ip: None,
        security_groups: Vec::new(),
    }];
    spec.instances = nodes();
    spec
}

fn net(text: &str) -> ipnet::Ipv4Net {
    text.parse().unwrap()
}

fn tags(key: &str, value: &str) -> Tags {
    Tags::from([(key.to_owned(), value.to_owned())])
}

fn add_reservations(subnet: &mut SubnetSpec) {
    subnet.reservations = vec![
        ReservationSpec { cidr: net("100.64.1.0/24"), kind: ReservationKind::Prefix },
        ReservationSpec { cidr: net("100.64.2.0/24"), kind: ReservationKind::Explicit },
    ];
}

/// A group with rules of every kind, and tags.
fn web() -> SecurityGroupSpec {
    let rule = |traffic, peer| GroupRule { traffic, peer, description: None };
    let nodes = || RulePeer::Group(id_for("nodes"));
    SecurityGroupSpec {
        description: "what people look at".to_owned(),
        ingress: vec![
            rule(Traffic::Tcp(80, 443), RulePeer::Cidr(net("10.20.0.0/16"))),
            rule(Traffic::Icmp(Some(8), None), nodes()),
        ],
        egress: vec![
            rule(Traffic::Udp(53, 54), RulePeer::Cidr(net("10.20.0.2/32"))),
            rule(Traffic::Tcp(5432, 5433), nodes()),
        ],
        tags: tags("mark", "group"),
        ..SecurityGroupSpec::new("web")
    }
}

/// node-1 with an ENI full of addresses, node-2 with many cards, a public address and a prefix, node-3 plain, node-4 on Xen.
fn nodes() -> Vec<InstanceSpec> {
    let extra = |place: &str, device, card| ExtraEniSpec {
        subnet: subnet(place),
        device: DeviceIndex(device),
        card: CardIndex(card),
        secondary_ips: 0,
        prefixes: 0,
        interface_type: "interface".to_owned(),
        security_groups: vec![id_for("web")],
        tags: Tags::new(),
    };
    let node = |n: u8, kind: &str, zone: &str| InstanceSpec {
        role: None,
        ..InstanceSpec::new(&format!("node-{n}"), kind, subnet(&format!("private-{zone}")))
    };
    vec![
        InstanceSpec {
            role: Some("node-role".to_owned()),
            tags: tags("team", "red"),
            eni_tags: tags("owner", "cni"),
            extra_enis: vec![ExtraEniSpec { secondary_ips: 2, tags: tags("owner", "cni"), ..extra("pods-a", 1, 0) }],
            ..node(1, "m5.large", "a")
        },
        InstanceSpec {
            hop_limit: 1,
            public_ip: Some("198.51.100.77".parse().unwrap()),
            private_dns_name: Some("node-2.example".to_owned()),
            security_groups: vec![id_for("nodes")],
            extra_enis: vec![ExtraEniSpec { prefixes: 1, interface_type: "trunk".to_owned(), ..extra("pods-b", 1, 1) }],
            ..node(2, "p4d.24xlarge", "b")
        },
        node(3, "m5.large", "c"),
        node(4, "t2.medium", "c"),
    ]
}
