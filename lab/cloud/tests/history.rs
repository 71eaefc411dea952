//! One seed gives one history: every action, every kind of fault, everything that can be done from outside and all looks at
//! IMDS, in a busy, throttled, lagging world. The world is asked by numbers alone, and gives everything twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::instance;
use lab_cloud::{
    CallId, Caller, Cloud, CloudFault, Consistency, FaultId, ImdsAnswer, ImdsArrival, Output, OutsideEvent, Profile,
    Setup, Throttle, WorldSpec, id_text,
};
use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse, Query, VERSION, catalogue};
use vpc_model::{Millis, Slot, Time};

const STEPS: u64 = 1400;

/// Parameters of each action; `{eni}` stands for one of the ENIs there are, `{n}` for a number.
const CALLS: &[(&str, &[(&str, &str)])] = &[
    ("AssignIpv6Addresses", &[("NetworkInterfaceId", "{eni}"), ("Ipv6AddressCount", "1")]),
    ("AssignPrivateIpAddresses", &[("NetworkInterfaceId", "{eni}"), ("SecondaryPrivateIpAddressCount", "1")]),
    ("AssociateRouteTable", &[("RouteTableId", "{table}"), ("SubnetId", "{subnet}")]),
    ("AssociateVpcCidrBlock", &[("VpcId", "{vpc}"), ("CidrBlock", "10.{n}0.0.0/16")]),
    (
        "AttachNetworkInterface",
        &[("NetworkInterfaceId", "{free}"), ("InstanceId", "{instance}"), ("DeviceIndex", "{n}")],
    ),
    (
        "AuthorizeSecurityGroupEgress",
        &[
            ("GroupId", "{group}"),
            ("IpPermissions.1.IpProtocol", "udp"),
            ("IpPermissions.1.FromPort", "{n}"),
            ("IpPermissions.1.ToPort", "99"),
            ("IpPermissions.1.IpRanges.1.CidrIp", "10.0.0.0/8"),
        ],
    ),
    (
        "AuthorizeSecurityGroupIngress",
        &[
            ("GroupId", "{group}"),
            ("IpProtocol", "tcp"),
            ("FromPort", "{n}"),
            ("ToPort", "80"),
            ("CidrIp", "10.0.0.0/8"),
        ],
    ),
    ("CreateNetworkInterface", &[("SubnetId", "{subnet}"), ("Ipv4PrefixCount", "1")]),
    (
        "CreateRoute",
        &[("RouteTableId", "{table}"), ("DestinationCidrBlock", "172.2{n}.0.0/16"), ("NetworkInterfaceId", "{eni}")],
    ),
    ("CreateRouteTable", &[("VpcId", "{vpc}")]),
    ("CreateSecurityGroup", &[("GroupName", "group {step}"), ("GroupDescription", "some"), ("VpcId", "{vpc}")]),
    ("CreateSubnet", &[("VpcId", "{vpc}"), ("CidrBlock", "10.20.{byte}.0/28")]),
    (
        "CreateSubnetCidrReservation",
        &[("SubnetId", "{subnet}"), ("Cidr", "10.20.8.1{n}/32"), ("ReservationType", "explicit")],
    ),
    ("CreateTags", &[("ResourceId.1", "{eni}"), ("Tag.1.Key", "step"), ("Tag.1.Value", "{step}")]),
    ("DeleteNetworkInterface", &[("NetworkInterfaceId", "{free}")]),
    ("DeleteRoute", &[("RouteTableId", "{routed}"), ("DestinationCidrBlock", "{to}")]),
    ("DeleteRouteTable", &[("RouteTableId", "{table}")]),
    ("DeleteSecurityGroup", &[("GroupId", "{group}")]),
    ("DeleteSubnet", &[("SubnetId", "{subnet}")]),
    ("DeleteSubnetCidrReservation", &[("SubnetCidrReservationId", "{reservation}")]),
    ("DeleteTags", &[("ResourceId.1", "{eni}"), ("Tag.1.Key", "step")]),
    ("DescribeAvailabilityZones", &[]),
    ("DescribeInstanceStatus", &[("IncludeAllInstances", "true")]),
    ("DescribeInstanceTypes", &[("InstanceType.1", "m5.large")]),
    ("DescribeInstances", &[]),
    ("DescribeNetworkInterfaceAttribute", &[("NetworkInterfaceId", "{eni}"), ("Attribute", "description")]),
    ("DescribeNetworkInterfaces", &[("Filter.1.Name", "tag-key"), ("Filter.1.Value.1", "step")]),
    ("DescribeRouteTables", &[]),
    ("DescribeSecurityGroupRules", &[]),
    ("DescribeSecurityGroups", &[]),
    ("DescribeSubnets", &[]),
    ("DescribeTags", &[]),
    ("DescribeVpcs", &[]),
    ("DetachNetworkInterface", &[("AttachmentId", "{attachment}")]),
    ("DisassociateRouteTable", &[("AssociationId", "{tie}")]),
    ("DisassociateVpcCidrBlock", &[("AssociationId", "{cidr}")]),
    ("GetSubnetCidrReservations", &[("SubnetId", "{subnet}")]),
    ("ModifyNetworkInterfaceAttribute", &[("NetworkInterfaceId", "{eni}"), ("SourceDestCheck.Value", "false")]),
    ("ModifySubnetAttribute", &[("SubnetId", "{subnet}"), ("MapPublicIpOnLaunch.Value", "true")]),
    ("RebootInstances", &[("InstanceId.1", "{instance}")]),
    (
        "ReplaceRoute",
        &[("RouteTableId", "{routed}"), ("DestinationCidrBlock", "{to}"), ("NetworkInterfaceId", "{eni}")],
    ),
    ("ReplaceRouteTableAssociation", &[("AssociationId", "{tie}"), ("RouteTableId", "{table}")]),
    ("RevokeSecurityGroupEgress", &[("GroupId", "{group}"), ("SecurityGroupRuleId.1", "{rule}")]),
    ("RevokeSecurityGroupIngress", &[("GroupId", "{group}"), ("SecurityGroupRuleId.1", "{rule}")]),
    (
        "RunInstances",
        &[
            ("ImageId", "ami-0123456789abcdef0"),
            ("MinCount", "1"),
            ("MaxCount", "2"),
            ("InstanceType", "t3.small"),
            ("SubnetId", "{subnet}"),
        ],
    ),
    ("StartInstances", &[("InstanceId.1", "{instance}")]),
    ("StopInstances", &[("InstanceId.1", "{instance}")]),
    ("TerminateInstances", &[("InstanceId.1", "{launched}")]),
    ("UnassignIpv6Addresses", &[("NetworkInterfaceId", "{eni}"), ("Ipv6Addresses.1", "fd00::1")]),
    ("UnassignPrivateIpAddresses", &[("NetworkInterfaceId", "{holder}"), ("PrivateIpAddress.1", "{secondary}")]),
];

/// What can never succeed here: the cloud has no IPv6.
const HOPELESS: [&str; 2] = ["AssignIpv6Addresses", "UnassignIpv6Addresses"];

/// One fault of each kind.
const FAULTS: &[&str] = &[
    r#"{"fault": "latency", "action": "*", "add_ms": 5, "jitter_ms": 500}"#,
    r#"{"fault": "throttle", "action": "DescribeVpcs", "capacity": 0, "refill_per_second": 0}"#,
    r#"{"fault": "deny", "action": "CreateSubnet*", "node": "node-1"}"#,
    r#"{"fault": "error", "action": "*", "skip": 9, "times": 3, "when": "lost"}"#,
    r#"{"fault": "subnet-exhausted", "subnet": "private-b", "leave": 2}"#,
    r#"{"fault": "subnet-fragmented", "subnet": "private-a", "leave": 2}"#,
    r#"{"fault": "imds-stale", "node": "node-1"}"#,
    r#"{"fault": "imds-partial", "node": "node-2"}"#,
    r#"{"fault": "imds-reordered", "node": "*"}"#,
    r#"{"fault": "imds-missing", "node": "node-3"}"#,
    r#"{"fault": "imds-hollow", "node": "*"}"#,
    r#"{"fault": "imds-unauthorized", "node": "node-3"}"#,
    r#"{"fault": "imds-error", "node": "node-2", "status": 503}"#,
    r#"{"fault": "imds-slow", "node": "*", "by_ms": 20}"#,
    r#"{"fault": "detach-slow", "by_ms": 5000}"#,
    r#"{"fault": "attach-stuck", "node": "node-1"}"#,
    r#"{"fault": "clock-skew", "by_ms": -9000}"#,
];

/// Where a kind stands in [`FAULTS`]. A new kind does not compile here before it has its place.
fn place_of(fault: &CloudFault) -> usize {
    match fault {
        CloudFault::Latency { .. } => 0,
        CloudFault::Throttle { .. } => 1,
        CloudFault::Deny { .. } => 2,
        CloudFault::Error { .. } => 3,
        CloudFault::SubnetExhausted { .. } => 4,
        CloudFault::SubnetFragmented { .. } => 5,
        CloudFault::ImdsStale { .. } => 6,
        CloudFault::ImdsPartial { .. } => 7,
        CloudFault::ImdsReordered { .. } => 8,
        CloudFault::ImdsMissing { .. } => 9,
        CloudFault::ImdsHollow { .. } => 10,
        CloudFault::ImdsUnauthorized { .. } => 11,
        CloudFault::ImdsError { .. } => 12,
        CloudFault::ImdsSlow { .. } => 13,
        CloudFault::DetachSlow { .. } => 14,
        CloudFault::AttachStuck { .. } => 15,
        CloudFault::ClockSkew { .. } => 16,
    }
}

/// Everything that came out.
#[derive(Debug, Default, PartialEq)]
struct History {
    outputs: Vec<Output>,
    imds: Vec<(ImdsArrival, ImdsAnswer)>,
    outside: Vec<bool>,
}

/// A world, and what its history has shown so far.
struct Play {
    cloud: Cloud,
    now: Time,
    /// What numbers are drawn from: the same in every play.
    number: u64,
    asked: BTreeMap<CallId, &'static str>,
    succeeded: BTreeSet<&'static str>,
    /// Ids that only answers show, by their kind.
    shown: BTreeMap<&'static str, Vec<String>>,
    history: History,
}

impl Play {
    fn new(seed: u64) -> Self {
        let setup = Setup {
            profile: Profile::aws(),
            seed,
            throttle: Throttle::aws(),
            consistency: Consistency::aws(),
            ..Setup::default()
        };
        Self {
            cloud: Cloud::new(WorldSpec::default_topology(), setup).unwrap(),
            now: Time(0),
            number: 1,
            asked: BTreeMap::new(),
            succeeded: BTreeSet::new(),
            shown: BTreeMap::new(),
            history: History::default(),
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.number = self.number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.number >> 33) % (below.max(1) as u64)).unwrap()
    }

    fn whole(mut self) -> Self {
        let mut faults: Vec<FaultId> = Vec::new();
        for step in 0..STEPS {
            self.ask(step);
            self.look(step);
            if step % 30 == 15 {
                self.meddle();
            }
            // Half of the time nothing is wrong.
            if step % 400 == 200 {
                for text in FAULTS {
                    faults.push(self.cloud.inject(self.now, serde_json::from_str(text).unwrap()).unwrap());
                }
            }
            if step % 400 == 399 {
                faults.drain(..).for_each(|fault| self.cloud.lift(self.now, fault).unwrap());
            }
            self.pass(Millis(step * 31 % 1500));
        }
        while let Some(due) = self.cloud.next_due() {
            self.pass(due.since(self.now));
        }
        self
    }

    fn pass(&mut self, time: Millis) {
        self.now = self.now + time;
        let outputs = self.cloud.advance(self.now);
        for output in &outputs {
            let Output::Answer { call, result: Ok(answer), .. } = output else { continue };
            self.succeeded.insert(self.asked[call]);
            let mut show = |kind, id: &str| self.shown.entry(kind).or_default().push(id.to_owned());
            match &**answer {
                AnyResponse::AssociateRouteTable(own) => show("tie", &own.association_id),
                AnyResponse::ReplaceRouteTableAssociation(own) => show("tie", &own.new_association_id),
                AnyResponse::DescribeSecurityGroupRules(own) => {
                    own.rules.iter().for_each(|rule| {
                        show("rule", &format!("{} {}", rule.group_id, rule.security_group_rule_id));
                    });
                }
                _ => {}
            }
        }
        self.history.outputs.extend(outputs);
    }

    /// Asks EC2 for something.
    fn ask(&mut self, step: u64) {
        let at = self.draw(CALLS.len());
        let (action, parameters) = CALLS[at];
        let words = self.words(step);
        let mut query = Query::default();
        query.push("Action", action);
        query.push("Version", VERSION);
        for (name, value) in parameters {
            let value = words.iter().fold((*value).to_owned(), |text, (word, value)| text.replace(word, value));
            query.push(*name, value);
        }
        let caller = match self.draw(4) {
            0 => Caller::Account,
            n => Caller::Instance(instance(&format!("node-{n}"))),
        };
        let request = AnyRequest::from_query(&query).unwrap_or_else(|e| panic!("{action}: {e}"));
        let call = self.cloud.submit(self.now, &caller, request);
        self.asked.insert(call, action);
    }

    /// What the words in [`CALLS`] stand for now.
    fn words(&mut self, step: u64) -> Vec<(&'static str, String)> {
        let (snapshot, plan) = (self.cloud.snapshot(self.now), self.cloud.network());
        let rule = self.shown.get("rule").cloned().unwrap_or_default();
        let rule = rule.iter().rev().nth(self.draw(rule.len().min(9))).cloned();
        let rule =
            rule.unwrap_or_else(|| format!("{} {}", plan.groups.keys().next().unwrap(), id_text("sgr-", "none")));
        let (of_rule, rule) = rule.split_once(' ').unwrap();
        let tie = self.shown.get("tie").cloned().unwrap_or_default();
        let tie = tie.iter().rev().nth(self.draw(tie.len().min(9))).cloned();
        let group = match self.draw(2) {
            0 => of_rule.to_owned(),
            _ => plan.groups.keys().nth(self.draw(plan.groups.len())).unwrap().to_string(),
        };
        let mut one = |ids: Vec<String>, other: String| ids.get(self.draw(ids.len())).cloned().unwrap_or(other);
        let holders = snapshot.enis.iter().filter_map(|eni| Some((eni, *eni.addresses.secondary.first()?)));
        let held = one(
            holders.map(|(eni, address)| format!("{} {address}", eni.id)).collect(),
            format!("{} 10.20.8.9", snapshot.enis[0].id),
        );
        let (holder, secondary) = held.split_once(' ').unwrap();
        let routes = plan.route_tables.iter().flat_map(|(id, routes)| {
            let own = routes.iter().filter(|route| route.destination.to_string().starts_with("172."));
            own.map(move |route| format!("{id} {}", route.destination))
        });
        let route = one(routes.collect(), format!("{} 172.20.0.0/16", id_text("rtb-", "none")));
        let (routed, to) = route.split_once(' ').unwrap();
        let free = snapshot.enis.iter().filter(|eni| eni.status == "available");
        let attachments = snapshot.enis.iter().filter_map(|eni| eni.attachment.as_ref());
        let attachments = attachments.filter(|own| own.device.0 > 0 && own.status == "attached");
        let living = snapshot.instances.iter().filter(|own| own.state != "terminated");
        // The nodes of the description stay: faults are about them.
        let launched = living.clone().filter(|own| !own.name.starts_with("node-"));
        let ids = |subnets: &[lab_cloud::SubnetSnapshot]| subnets.iter().map(|own| own.id.to_string()).collect();
        let reservations = snapshot.subnets.iter().flat_map(|own| &own.reservations);
        vec![
            ("{eni}", one(snapshot.enis.iter().map(|eni| eni.id.to_string()).collect(), String::new())),
            ("{free}", one(free.map(|eni| eni.id.to_string()).collect(), snapshot.enis[0].id.to_string())),
            ("{attachment}", one(attachments.map(|own| own.id.to_string()).collect(), id_text("eni-attach-", "none"))),
            ("{instance}", one(living.map(|own| own.id.to_string()).collect(), instance("node-1").to_string())),
            ("{launched}", one(launched.map(|own| own.id.to_string()).collect(), id_text("i-", "none"))),
            ("{subnet}", one(ids(&snapshot.subnets), String::new())),
            ("{vpc}", snapshot.vpc.to_string()),
            ("{cidr}", one(snapshot.cidr_blocks.iter().map(|own| own.id.clone()).collect(), String::new())),
            ("{reservation}", one(reservations.map(|own| own.id.clone()).collect(), id_text("scr-", "none"))),
            ("{table}", one(plan.route_tables.keys().cloned().collect(), String::new())),
            ("{routed}", routed.to_owned()),
            ("{to}", to.to_owned()),
            ("{group}", group),
            ("{rule}", rule.to_owned()),
            ("{tie}", tie.unwrap_or_else(|| id_text("rtbassoc-", "none"))),
            ("{holder}", holder.to_owned()),
            ("{secondary}", secondary.to_owned()),
            ("{n}", (1 + step % 4).to_string()),
            ("{byte}", (128 + step % 64).to_string()),
            ("{step}", step.to_string()),
        ]
    }

    /// Looks at IMDS.
    fn look(&mut self, step: u64) {
        let node = instance(&format!("node-{}", step % 3 + 1));
        let path = match step % 5 {
            0 => "meta-data/public-ipv4".to_owned(),
            1 => "dynamic/instance-identity/document".to_owned(),
            _ => {
                let macs = self.cloud.imds_answer(self.now, &node, "meta-data/network/interfaces/macs").value;
                let mac = macs.as_deref().and_then(|macs| macs.lines().last()).unwrap_or("none").to_owned();
                format!("meta-data/network/interfaces/macs/{mac}local-ipv4s")
            }
        };
        let arrival = self.cloud.imds_arrival(self.now, &node, step.is_multiple_of(7));
        let answer = self.cloud.imds_answer(self.now, &node, &path);
        self.history.imds.push((arrival, answer));
    }

    /// Does what somebody outside does.
    fn meddle(&mut self) {
        let snapshot = self.cloud.snapshot(self.now);
        let eni = snapshot.enis[self.draw(snapshot.enis.len())].clone();
        let node = snapshot.instances[self.draw(snapshot.instances.len())].clone();
        let now = self.now;
        let done = match self.draw(5) {
            0 => self.cloud.outside(now, OutsideEvent::EniRemoved { eni: eni.id }).is_ok(),
            1 => self.cloud.outside(now, OutsideEvent::TagsRemoved { eni: eni.id, keys: Vec::new() }).is_ok(),
            2 => {
                let address = eni.addresses.secondary.first().copied().unwrap_or(eni.addresses.primary);
                self.cloud.outside(now, OutsideEvent::AddressRemoved { address: Slot::Address(address) }).is_ok()
            }
            3 => self.cloud.power(now, &node.id, node.state != "running").is_ok(),
            _ => self.cloud.map_public(now, eni.addresses.primary, None).is_ok(),
        };
        self.history.outside.push(done);
    }
}

#[test]
fn one_seed_gives_one_history() {
    let (first, again, other) = (Play::new(7).whole(), Play::new(7).whole(), Play::new(8).whole());
    assert!(first.history == again.history, "the same seed, another history");
    assert!(first.history != other.history, "another seed, the same history");
    let wanted: BTreeSet<_> = catalogue().iter().map(|action| action.name).collect();
    let written: BTreeSet<_> = CALLS.iter().map(|(action, _)| *action).collect();
    assert_eq!(wanted, written, "every action is part of it");
    let hopeful: BTreeSet<_> = wanted.into_iter().filter(|action| !HOPELESS.contains(action)).collect();
    assert_eq!(hopeful.difference(&first.succeeded).collect::<Vec<_>>(), Vec::<&&str>::new(), "and has come about");
    let history = first.history;
    let lost = history.outputs.iter().filter(|output| matches!(output, Output::Lost { .. })).count();
    let throttled = history.outputs.iter().filter(
        |output| matches!(output, Output::Answer { result: Err(error), .. } if error.code == "RequestLimitExceeded"),
    );
    assert!(lost > 0, "no answer was lost");
    assert!(throttled.count() > 0, "nobody was told to wait");
    assert!(history.imds.iter().any(|(arrival, _)| arrival.refusal == Some(503)));
    assert!(history.imds.iter().any(|(_, answer)| !answer.faults.is_empty()));
    assert!(history.outside.contains(&true) && history.outside.contains(&false));
}

#[test]
fn every_kind_of_fault_is_part_of_the_history() {
    let places: Vec<_> = FAULTS.iter().map(|text| place_of(&serde_json::from_str(text).unwrap())).collect();
    assert_eq!(places, (0..FAULTS.len()).collect::<Vec<_>>());
}
