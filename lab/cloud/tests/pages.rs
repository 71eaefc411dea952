//! Pages of every Describe action: their sizes, their tokens, and what is on them while objects come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod rich;

use std::collections::BTreeSet;

use lab_cloud::{ApiError, filter_catalogue};
use proptest::prelude::*;
use rich::Rich;
use vpc_aws::ec2::shapes::AnyResponse;

/// Parameters that an action cannot do without.
fn needed(world: &Rich, action: &str) -> Vec<(&'static str, String)> {
    match action {
        "GetSubnetCidrReservations" => vec![("SubnetId", world.id("pods-a"))],
        _ => Vec::new(),
    }
}

fn call(
    world: &mut Rich,
    action: &str,
    parameters: &[(&str, &str)],
) -> Result<(BTreeSet<String>, Option<String>), ApiError> {
    let needed = needed(world, action);
    let mut all: Vec<(&str, &str)> = needed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend(parameters);
    let answer = world.call(action, &all)?;
    Ok((world.names(&answer), token(&answer)))
}

fn token(answer: &AnyResponse) -> Option<String> {
    use AnyResponse as A;
    match answer {
        A::DescribeInstanceStatus(own) => own.next_token.clone(),
        A::DescribeInstanceTypes(own) => own.next_token.clone(),
        A::DescribeInstances(own) => own.next_token.clone(),
        A::DescribeNetworkInterfaces(own) => own.next_token.clone(),
        A::DescribeRouteTables(own) => own.next_token.clone(),
        A::DescribeSecurityGroupRules(own) => own.next_token.clone(),
        A::DescribeSecurityGroups(own) => own.next_token.clone(),
        A::DescribeSubnets(own) => own.next_token.clone(),
        A::DescribeTags(own) => own.next_token.clone(),
        A::DescribeVpcs(own) => own.next_token.clone(),
        A::GetSubnetCidrReservations(own) => own.next_token.clone(),
        A::DescribeAvailabilityZones(_) => None,
        other => panic!("{} has no pages", other.name()),
    }
}

#[test]
fn page_sizes_are_those_of_each_action() {
    let mut world = Rich::new();
    for action in filter_catalogue() {
        let Some((least, most)) = action.max_results else { continue };
        for (size, good) in [(least - 1, false), (least, true), (most, true), (most + 1, false), (0, false)] {
            let size = size.to_string();
            let result = call(&mut world, action.action, &[("MaxResults", &size)]);
            let code = result.map(|_| String::new()).unwrap_or_else(|error| error.code.into_owned());
            assert_eq!(code, if good { "" } else { "InvalidParameterValue" }, "{} {size}", action.action);
        }
        let (id, name) = match action.action {
            "DescribeNetworkInterfaces" => ("NetworkInterfaceId.1", "eni-1"),
            "DescribeInstances" | "DescribeInstanceStatus" => ("InstanceId.1", "node-1"),
            _ => {
                assert!(!action.ids_exclude_max_results, "{}", action.action);
                continue;
            }
        };
        let value = world.id(name);
        let both = call(&mut world, action.action, &[(id, &value), ("MaxResults", "5")]);
        assert_eq!(both.unwrap_err().code, "InvalidParameterCombination", "{}", action.action);
    }
}

#[test]
fn a_token_is_good_for_the_action_and_the_lab_that_gave_it() {
    let mut world = Rich::new();
    let mut tokens = Vec::new();
    for action in ["DescribeNetworkInterfaces", "DescribeSubnets", "DescribeTags", "DescribeInstances"] {
        let (first, token) = call(&mut world, action, &[("MaxResults", "5")]).unwrap();
        let token = token.unwrap_or_else(|| panic!("{action} has more than five"));
        let (rest, end) = call(&mut world, action, &[("NextToken", &token)]).unwrap();
        assert!(first.is_disjoint(&rest) && first.len() == 5 && !rest.is_empty() && end.is_none(), "{action}");
        tokens.push((action, token));
    }
    for action in filter_catalogue().iter().filter(|action| action.max_results.is_some()) {
        for (giver, token) in &tokens {
            if *giver == action.action {
                continue;
            }
            let error = call(&mut world, action.action, &[("NextToken", token)]).unwrap_err();
            assert_eq!(error.code, "InvalidNextToken", "{} with a token of {giver}", action.action);
        }
        for token in ["rubbish", "", "0123456789abcdef"] {
            let error = call(&mut world, action.action, &[("NextToken", token)]).unwrap_err();
            assert_eq!(error.code, "InvalidNextToken", "{} {token}", action.action);
        }
    }
}

#[test]
fn a_dry_run_of_any_of_them_shows_nothing() {
    let mut world = Rich::new();
    for action in filter_catalogue() {
        let error = call(&mut world, action.action, &[("DryRun", "true")]).unwrap_err();
        assert_eq!((error.code.as_ref(), error.status), ("DryRunOperation", 412), "{}", action.action);
    }
}

/// Instances of one launch may be on two pages: each page has the launch with its own part of them.
#[test]
fn a_launch_may_go_over_a_page() {
    let mut world = Rich::new();
    let place = world.id("private-b");
    let launch =
        [("ImageId", "ami-0aaaaaaaaaaaaaaaa"), ("MinCount", "9"), ("MaxCount", "9"), ("InstanceType", "m5.large")];
    let launch = [launch.as_slice(), &[("SubnetId", &place)]].concat();
    let AnyResponse::RunInstances(launch) = world.call("RunInstances", &launch).unwrap() else { panic!() };
    let filter = [("Filter.1.Name", "reservation-id"), ("Filter.1.Value.1", launch.reservation_id.as_str())];
    let (mut sizes, mut seen, mut next) = (Vec::new(), BTreeSet::new(), None);
    loop {
        let mut query = [filter.as_slice(), &[("MaxResults", "5")]].concat();
        query.extend(next.iter().map(|token: &String| ("NextToken", token.as_str())));
        let AnyResponse::DescribeInstances(page) = world.call("DescribeInstances", &query).unwrap() else { panic!() };
        assert_eq!(page.reservations.len(), 1);
        sizes.push(page.reservations[0].instances.len());
        seen.extend(page.reservations[0].instances.iter().map(|own| own.instance_id.clone()));
        next = page.next_token;
        if next.is_none() {
            break;
        }
    }
    assert_eq!((sizes, seen.len()), (vec![5, 4], 9));
}

/// Kinds of objects that come and go in the property below.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Eni,
    Group,
    RouteTable,
    Tag,
}

impl Kind {
    fn action(self) -> &'static str {
        match self {
            Self::Eni => "DescribeNetworkInterfaces",
            Self::Group => "DescribeSecurityGroups",
            Self::RouteTable => "DescribeRouteTables",
            Self::Tag => "DescribeTags",
        }
    }

    /// Makes the `n`th object. Returns its name in answers.
    fn create(self, world: &mut Rich, n: usize) -> String {
        let (subnet, vpc, name) = (world.id("private-b"), world.id("vpc"), format!("n{n}"));
        match self {
            Self::Eni => match world.call("CreateNetworkInterface", &[("SubnetId", &subnet)]).unwrap() {
                AnyResponse::CreateNetworkInterface(own) => own.network_interface.network_interface_id.to_string(),
                other => panic!("{other:?}"),
            },
            Self::Group => {
                let query = [("VpcId", vpc.as_str()), ("GroupName", &name), ("GroupDescription", "comes and goes")];
                match world.call("CreateSecurityGroup", &query).unwrap() {
                    AnyResponse::CreateSecurityGroup(own) => own.group_id.to_string(),
                    other => panic!("{other:?}"),
                }
            }
            Self::RouteTable => match world.call("CreateRouteTable", &[("VpcId", &vpc)]).unwrap() {
                AnyResponse::CreateRouteTable(own) => own.route_table.route_table_id,
                other => panic!("{other:?}"),
            },
            Self::Tag => {
                let query = [("ResourceId.1", vpc.as_str()), ("Tag.1.Key", &name), ("Tag.1.Value", "")];
                world.call("CreateTags", &query).unwrap();
                format!("vpc {name}")
            }
        }
    }

    fn delete(self, world: &mut Rich, name: &str) {
        let result = match self {
            Self::Eni => world.call("DeleteNetworkInterface", &[("NetworkInterfaceId", name)]),
            Self::Group => world.call("DeleteSecurityGroup", &[("GroupId", name)]),
            Self::RouteTable => world.call("DeleteRouteTable", &[("RouteTableId", name)]),
            Self::Tag => {
                let (vpc, key) = (world.id("vpc"), name.trim_start_matches("vpc "));
                world.call("DeleteTags", &[("ResourceId.1", vpc.as_str()), ("Tag.1.Key", key)])
            }
        };
        result.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is there from the first page to the last is given exactly once, and nothing is given twice, however many
    /// objects come and go in between.
    #[test]
    fn what_stays_is_given_exactly_once(
        kind in prop_oneof![Just(Kind::Eni), Just(Kind::Group), Just(Kind::RouteTable), Just(Kind::Tag)],
        first in 0_usize..20,
        between in prop::collection::vec((5_u32..9, prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 0..4)), 8),
    ) {
        let mut world = Rich::new();
        let mut made = 0;
        let mut own: Vec<String> = Vec::new();
        while made < first {
            own.push(kind.create(&mut world, made));
            made += 1;
        }
        let (mut stay, _) = call(&mut world, kind.action(), &[]).unwrap();
        let mut ever = stay.clone();
        let mut given: Vec<String> = Vec::new();
        let mut next: Option<String> = None;
        let mut changes = between.iter().cycle();
        loop {
            let (size, change) = changes.next().unwrap();
            let size = size.to_string();
            let mut query = vec![("MaxResults", size.as_str())];
            query.extend(next.iter().map(|token| ("NextToken", token.as_str())));
            let (page, token) = call(&mut world, kind.action(), &query).unwrap();
            given.extend(page);
            next = token;
            if next.is_none() {
                break;
            }
            // At most 40 more, so that there is an end to it.
            for delete in change.iter().take(if made < first + 40 { 4 } else { 0 }) {
                match delete.as_ref().filter(|_| !own.is_empty()) {
                    None => {
                        own.push(kind.create(&mut world, made));
                        made += 1;
                        ever.extend(own.last().cloned());
                    }
                    Some(which) => {
                        let gone = own.remove(which.index(own.len()));
                        kind.delete(&mut world, &gone);
                        stay.remove(&gone);
                    }
                }
            }
        }
        let once: BTreeSet<String> = given.iter().cloned().collect();
        prop_assert_eq!(once.len(), given.len(), "given twice: {:?}", given);
        prop_assert!(stay.is_subset(&once), "left out: {:?}", stay.difference(&once).collect::<Vec<_>>());
        prop_assert!(once.is_subset(&ever), "never there: {:?}", once.difference(&ever).collect::<Vec<_>>());
    }
}
