//! Where ENIs are made: the vectors of tags and names, refusals of each subnet, ENIConfigs that are wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use vpc_agent::{
    CloudCall, CloudFailure, EniConfig, EniConfigKeys, FailureClass, Home, NamedBy, NoPlace, NodeView, PlaceNews,
    Places, Placing, SubnetTruth, name_of_eni_config,
};
use vpc_ipam::{EniFacts, EniRole, Retired, Unit};
use vpc_model::{CardIndex, DeviceIndex, Ipv4Net, Mac, Millis, Subnet, SubnetId, Time};

const NOW: Time = Time(1_000_000);
const ZONE_KEY: &str = "topology.kubernetes.io/zone";
const KEY: &str = "k8s.amazonaws.com/eniConfig";

fn id(name: &str) -> SubnetId {
    format!("subnet-{name}").parse().unwrap()
}

fn net(text: &str) -> Subnet {
    Subnet::try_from(text.parse::<Ipv4Net>().unwrap()).unwrap()
}

fn home() -> Home {
    Home {
        subnet: id("home"),
        net: Some(net("10.20.8.0/22")),
        vpc: "vpc-1".parse().unwrap(),
        zone: "us-west-2a".into(),
        groups: vec!["sg-primary".parse().unwrap()],
    }
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A subnet of the node's VPC and zone.
fn subnet(name: &str, free: u32, tags: &[(&str, &str)]) -> SubnetTruth {
    let nets = ["home", "b", "c", "pods"];
    let third = nets.iter().position(|known| *known == name).unwrap_or(nets.len()) * 16;
    SubnetTruth {
        id: id(name),
        vpc: "vpc-1".parse().unwrap(),
        zone: "us-west-2a".into(),
        net: net(&format!("100.64.{third}.0/20")),
        free,
        tags: texts(tags),
    }
}

fn failure(class: FailureClass) -> CloudFailure {
    CloudFailure {
        class,
        action: "DescribeSubnets".into(),
        code: "Code".into(),
        message: "no".into(),
        lost_before: false,
    }
}

fn discovery(cluster: Option<&str>) -> Placing {
    Placing { custom: None, discovery: true, cluster: cluster.map(str::to_owned) }
}

fn custom(label: &str) -> Placing {
    let keys = EniConfigKeys { annotation: KEY.into(), label: label.into() };
    Placing { custom: Some(keys), discovery: true, cluster: None }
}

/// Asks for the list as an agent does, and hands it over.
fn list(places: &mut Places, now: Time, subnets: Vec<SubnetTruth>) {
    assert!(places.wants_list(now, true).is_some(), "the list is wanted");
    places.listed(now, subnets);
}

fn eni(name: &str, device: u8) -> EniFacts {
    EniFacts {
        id: "eni-1".parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        card: CardIndex(0),
        device: DeviceIndex(device),
        subnet: subnet(name, 0, &[]).net,
        subnet_id: Some(id(name)),
        primary: "100.64.0.9".parse().unwrap(),
    }
}

const ROLE: &str = "kubernetes.io/role/cni";
const OURS: &str = "cni.networking.k8s.aws/cluster/ours";
const THEIRS: &str = "cni.networking.k8s.aws/cluster/theirs";

type Tags = &'static [(&'static str, &'static str)];

/// Tags of a subnet; may an ENI be made there if it is home, if it is another one; is an ENI there kept from pods.
const TAGS: &[(Tags, Option<&str>, bool, bool, bool)] = &[
    (&[], Some("ours"), true, false, false),
    (&[(ROLE, "")], Some("ours"), true, false, false),
    (&[(ROLE, "0")], Some("ours"), false, false, true),
    (&[(ROLE, "0"), (OURS, "")], Some("ours"), false, false, true),
    (&[(ROLE, "1")], Some("ours"), true, true, false),
    (&[(ROLE, "true")], Some("ours"), true, true, false),
    (&[(ROLE, "1"), (OURS, "no")], Some("ours"), true, true, false),
    (&[(ROLE, "1"), (THEIRS, "")], Some("ours"), false, false, true),
    (&[(ROLE, "1"), (THEIRS, ""), (OURS, "")], Some("ours"), true, true, false),
    // The cluster has no name: nobody's tags concern it.
    (&[(ROLE, "1"), (THEIRS, "")], None, true, true, false),
    (&[(ROLE, "1"), (THEIRS, "")], Some(""), true, true, false),
    // A cluster's tag alone says nothing, neither for nor against.
    (&[(OURS, "")], Some("ours"), true, false, false),
    (&[(THEIRS, "")], Some("ours"), true, false, false),
];

#[test]
fn tags_decide_where_enis_are_made_and_which_get_pods() {
    for (tags, cluster, at_home, elsewhere, excluded) in TAGS {
        let row = format!("{tags:?} in cluster {cluster:?}");
        let mut places = Places::new(discovery(*cluster), home());
        list(&mut places, NOW, vec![subnet("home", 10, tags)]);
        assert_eq!(places.choose(NOW, Unit::Address).is_ok(), *at_home, "home with {row}");
        let mut places = Places::new(discovery(*cluster), home());
        list(&mut places, NOW, vec![subnet("home", 10, &[(ROLE, "0")]), subnet("b", 10, tags)]);
        let chosen = places.choose(NOW, Unit::Address).map(|choice| choice.place.subnet);
        assert_eq!(
            chosen,
            if *elsewhere { Ok(id("b")) } else { Err(NoPlace::AllExcluded { home: id("home") }) },
            "{row}"
        );
        let role = if *excluded { EniRole::Retired(Retired::SubnetExcluded) } else { EniRole::Pods };
        assert_eq!(places.role_of(&eni("b", 1)), role, "an ENI in a subnet with {row}");
    }
}

#[test]
fn without_discovery_home_is_used_unless_it_is_marked() {
    let placing = Placing { discovery: false, ..discovery(None) };
    let mut places = Places::new(placing.clone(), home());
    assert_eq!(places.wants_list(NOW, false), None, "not before something is to be made");
    list(&mut places, NOW, vec![subnet("home", 1, &[]), subnet("b", 10, &[(ROLE, "1")])]);
    assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.subnet, id("home"));
    let mut places = Places::new(placing.clone(), home());
    list(&mut places, NOW, vec![subnet("home", 1, &[(ROLE, "0")]), subnet("b", 10, &[(ROLE, "1")])]);
    assert_eq!(places.choose(NOW, Unit::Address), Err(NoPlace::AllExcluded { home: id("home") }));
    assert_eq!(places.take_news(), [PlaceNews::Wrong(NoPlace::AllExcluded { home: id("home") })]);
    assert_eq!(places.role_of(&eni("home", 0)), EniRole::Pods, "pods of ENIs there are are not discovery's");
}

#[test]
fn the_subnet_with_most_free_addresses_comes_first_and_equals_keep_their_order() {
    let mut places = Places::new(discovery(None), home());
    let one = [(ROLE, "1")];
    let mut other_zone = subnet("z", 900, &one);
    other_zone.zone = "us-west-2b".into();
    let all = vec![subnet("home", 50, &[]), subnet("b", 70, &one), subnet("c", 70, &one), other_zone];
    list(&mut places, NOW, all);
    let mut order = vec![];
    while let Ok(choice) = places.choose(NOW, Unit::Address) {
        assert_eq!(choice.place.groups, home().groups, "the primary ENI's groups, in other subnets too");
        places.refused(NOW, &choice.place.subnet, FailureClass::SubnetExhausted);
        order.push(choice.place.subnet);
    }
    assert_eq!(order, [id("b"), id("c"), id("home")]);
}

#[test]
fn a_list_that_is_denied_means_home_and_is_said_once() {
    let mut places = Places::new(discovery(None), home());
    assert_eq!(places.choose(NOW, Unit::Prefix), Err(NoPlace::Listing));
    let mut now = NOW;
    for _ in 0..5 {
        assert_eq!(places.wants_list(now, true), Some(CloudCall::Subnets { also: vec![] }));
        assert_eq!(places.wants_list(now, true), None, "it is on its way");
        places.list_failed(now, &failure(FailureClass::Unauthorized));
        assert_eq!(places.wants_list(now, true), None, "not at once again");
        let choice = places.choose(now, Unit::Prefix).unwrap();
        assert_eq!((choice.place.subnet, choice.net, choice.unit), (id("home"), home().net, Unit::Prefix));
        assert_eq!(places.role_of(&eni("b", 1)), EniRole::Pods, "unknown is not excluded");
        now = places.deadlines(now).next().expect("tried again some time");
        assert_eq!(places.wants_list(now, false), None, "nothing is to be made: nobody is asked in vain");
    }
    assert!(matches!(places.take_news().as_slice(), [PlaceNews::NotListed { .. }]));
    let longest = places.deadlines(now).all(|at| at.since(now) <= FailureClass::LONGEST);
    assert!(longest);
    list(&mut places, now, vec![subnet("home", 1, &[]), subnet("b", 10, &[(ROLE, "1")])]);
    assert_eq!(places.choose(now, Unit::Prefix).unwrap().place.subnet, id("b"));
}

#[test]
fn the_list_is_asked_for_at_start_and_when_it_is_old_and_needed() {
    let mut places = Places::new(discovery(None), home());
    assert!(places.wants_list(NOW, false).is_some(), "at start");
    places.listed(NOW, vec![subnet("home", 1, &[])]);
    let later = NOW + Places::LIST_AGE;
    for (now, growing, wanted) in [(NOW, true, false), (later, false, false), (later, true, true)] {
        assert_eq!(places.clone().wants_list(now, growing).is_some(), wanted, "{now:?} {growing}");
    }
    // Tags changed meanwhile: noticed without a restart, and said once.
    assert_eq!(places.role_of(&eni("home", 1)), EniRole::Pods);
    list(&mut places, later, vec![subnet("home", 1, &[(ROLE, "0")]), subnet("b", 9, &[(ROLE, "1")])]);
    assert_eq!(places.role_of(&eni("home", 1)), EniRole::Retired(Retired::SubnetExcluded));
    assert_eq!(places.take_news(), [PlaceNews::Excluded { subnet: id("home") }]);
    list(
        &mut places,
        later + Places::LIST_AGE,
        vec![subnet("home", 1, &[(ROLE, "0")]), subnet("b", 9, &[(ROLE, "1")])],
    );
    assert_eq!(places.take_news(), []);
}

/// Nothing that is known has room: a subnet that somebody tags now is found soon.
#[test]
fn a_thirsty_node_looks_for_other_subnets_sooner() {
    let mut places = Places::new(discovery(None), home());
    list(&mut places, NOW, vec![subnet("home", 1, &[]), subnet("b", 9, &[])]);
    let soon = NOW + Places::THIRSTY_AGE;
    assert!(places.clone().wants_list(soon, true).is_none(), "home has room");
    places.refused(soon - Millis(1), &id("home"), FailureClass::SubnetExhausted);
    assert!(places.clone().wants_list(soon - Millis(1), true).is_none());
    list(&mut places, soon, vec![subnet("home", 0, &[]), subnet("b", 9, &[(ROLE, "1")])]);
    assert_eq!(places.choose(soon, Unit::Address).unwrap().place.subnet, id("b"));
}

/// A subnet is too full for a prefix where the newest list shows so few free addresses that one more would not make one.
#[test]
fn a_subnet_that_refused_a_prefix_is_crowded_as_long_as_the_list_says_so() {
    let mut places = Places::new(discovery(None), home());
    for (free, crowded) in [(0, true), (14, true), (15, false), (16, false)] {
        let mut places = places.clone();
        list(&mut places, NOW, vec![subnet("home", free, &[])]);
        assert!(!places.is_crowded(NOW, &id("home")), "it has refused nothing");
        places.refused(NOW, &id("home"), FailureClass::Fragmented);
        assert_eq!(places.is_crowded(NOW, &id("home")), crowded, "{free}");
        let old = NOW + Places::LIST_AGE + Places::LIST_AGE;
        assert!(!places.is_crowded(old, &id("home")), "an old list says nothing");
        assert!(places.wants_list(old, true).is_some());
        places.worked(&id("home"), Unit::Prefix, 16);
        assert!(!places.is_crowded(NOW, &id("home")), "{free}");
    }
    places.refused(NOW, &id("home"), FailureClass::Fragmented);
    assert!(!places.is_crowded(NOW, &id("home")), "no list says so");
}

/// Where nobody tags a subnet or frees addresses, the node asks ever more rarely; whatever hints at room has it ask soon again.
#[test]
fn a_node_that_stays_thirsty_asks_ever_more_rarely() {
    let mut places = Places::new(discovery(None), home());
    let empty = || vec![subnet("home", 0, &[])];
    list(&mut places, NOW, empty());
    let next = |places: &mut Places, from: Time| {
        let asks = |at: &u64| {
            places.refused(Time(*at), &id("home"), FailureClass::SubnetExhausted);
            places.wants_list(Time(*at), true).is_some()
        };
        (from.0..).step_by(1000).find(asks).map(Time).unwrap()
    };
    let pauses = |places: &mut Places, mut now: Time, looks: usize, found: &dyn Fn() -> Vec<SubnetTruth>| {
        let mut pauses = vec![];
        for _ in 0..looks {
            let at = next(places, now);
            places.listed(at, found());
            pauses.push(at.since(now).0 / 1000);
            now = at;
        }
        (pauses, now)
    };
    let (asked, now) = pauses(&mut places, NOW, 7, &empty);
    assert_eq!(asked, [10, 20, 40, 80, 120, 120, 120]);
    // The list shows a freed address; the next one shows no more than that.
    let (asked, now) = pauses(&mut places, now, 4, &|| vec![subnet("home", 1, &[])]);
    assert_eq!(asked, [120, 10, 20, 40]);
    // What gives something has room.
    places.worked(&id("home"), Unit::Address, 1);
    let (asked, now) = pauses(&mut places, now, 2, &|| vec![subnet("home", 1, &[])]);
    assert_eq!(asked, [10, 20]);
    // A cluster of thousands does not fill EC2's bucket with that.
    places.lap_is(Millis::seconds(400));
    let (asked, _) = pauses(&mut places, now, 6, &|| vec![subnet("home", 1, &[])]);
    assert_eq!(asked, [40, 80, 160, 320, 400, 400]);
}

#[test]
fn a_subnet_the_list_lacks_is_not_excluded() {
    let mut places = Places::new(discovery(None), home());
    list(&mut places, NOW, vec![subnet("b", 9, &[])]);
    assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.subnet, id("home"), "another account's, perhaps");
    assert_eq!(places.role_of(&eni("home", 0)), EniRole::Pods);
    let unknown = EniFacts { subnet_id: None, ..eni("home", 1) };
    assert_eq!(places.role_of(&unknown), EniRole::Pods);
}

#[test]
fn an_exhausted_subnet_is_left_alone_for_a_growing_while_and_others_are_used() {
    let mut places = Places::new(discovery(None), home());
    list(&mut places, NOW, vec![subnet("home", 90, &[]), subnet("b", 10, &[(ROLE, "1")])]);
    let (mut now, mut pauses) = (NOW, vec![]);
    for _ in 0..7 {
        places.refused(now, &id("home"), FailureClass::SubnetExhausted);
        places.refused(now + Millis(1), &id("home"), FailureClass::SubnetExhausted);
        let until = places.exhausted(now, &id("home")).unwrap();
        assert_eq!(places.choose(now, Unit::Address).unwrap().place.subnet, id("b"));
        assert_eq!(places.exhausted(now, &id("b")), None, "each subnet for itself");
        assert_eq!(places.deadlines(now).min(), Some(until));
        pauses.push(until.since(now).0 / 1000);
        now = until;
        assert_eq!(places.choose(now, Unit::Address).unwrap().place.subnet, id("home"), "its pause is over");
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 120, 120], "an answer during a pause does not make it longer");
    assert_eq!(places.take_news().len(), 7);
    places.worked(&id("home"), Unit::Address, 1);
    places.refused(now, &id("home"), FailureClass::SubnetExhausted);
    assert_eq!(places.exhausted(now, &id("home")), Some(now + Millis::seconds(5)), "forgotten on success");
    places.refused(now, &id("b"), FailureClass::SubnetExhausted);
    let Err(NoPlace::AllRefused { refused, retry_in }) = places.choose(now, Unit::Address) else { panic!() };
    assert_eq!((refused.len(), retry_in), (2, Millis::seconds(5)));
}

/// An address that makes place for a prefix on a full ENI, and is taken again when there is no prefix, is no sign of room.
#[test]
fn what_a_node_gave_back_itself_is_no_sign_of_room() {
    let mut places = Places::new(discovery(None), home());
    list(&mut places, NOW, vec![subnet("home", 90, &[])]);
    let home = id("home");
    let refuse = |places: &mut Places, now: Time| {
        places.refused(now, &home, FailureClass::SubnetExhausted);
        places.exhausted(now, &home).unwrap()
    };
    let mut now = NOW;
    for seconds in [5, 10, 20, 40] {
        let until = refuse(&mut places, now);
        assert_eq!(until.since(now), Millis::seconds(seconds));
        now = until;
        places.got_back(&home, 1);
        places.worked(&home, Unit::Address, 1);
        assert!(places.is_doubtful(&home, Unit::Address), "one at a time is asked for");
    }
    places.got_back(&home, 1);
    places.worked(&home, Unit::Address, 2);
    assert!(!places.is_doubtful(&home, Unit::Address), "one of them is news");
    assert_eq!(refuse(&mut places, now).since(now), Millis::seconds(5));
    places.worked(&home, Unit::Address, 1);
    assert!(
        !places.is_doubtful(&home, Unit::Address),
        "what was given back before the refusals that are forgotten is forgotten too"
    );
}

#[test]
fn what_does_not_concern_the_subnet_closes_none() {
    let mut places = Places::new(discovery(None), home());
    list(&mut places, NOW, vec![subnet("home", 90, &[])]);
    for class in [
        FailureClass::Throttled,
        FailureClass::Unauthorized,
        FailureClass::AddressLimit,
        FailureClass::EniLimit,
        FailureClass::WrongState,
        FailureClass::Lost,
        FailureClass::Unreachable,
        FailureClass::Other,
    ] {
        places.refused(NOW, &id("home"), class);
        assert!(places.choose(NOW, Unit::Prefix).is_ok(), "{class:?}");
    }
    assert_eq!(places.deadlines(NOW).count(), 0);
}

#[test]
fn prefixes_come_from_whole_subnets_first_then_single_addresses_from_fragmented_ones() {
    let mut places = Places::new(discovery(None), home());
    let one = [(ROLE, "1")];
    list(&mut places, NOW, vec![subnet("home", 90, &[]), subnet("b", 50, &one), subnet("c", 10, &one)]);
    let choose = |places: &Places, now, unit| {
        let choice = places.choose(now, unit).unwrap();
        (choice.place.subnet, choice.unit)
    };
    assert_eq!(choose(&places, NOW, Unit::Prefix), (id("home"), Unit::Prefix));
    places.refused(NOW, &id("home"), FailureClass::Fragmented);
    assert!(places.single_only(NOW, &id("home")) && !places.single_only(NOW, &id("b")));
    assert_eq!(choose(&places, NOW, Unit::Prefix), (id("b"), Unit::Prefix));
    assert_eq!(choose(&places, NOW, Unit::Address), (id("home"), Unit::Address), "single addresses it has");
    places.refused(NOW, &id("b"), FailureClass::SubnetExhausted);
    assert_eq!(choose(&places, NOW, Unit::Prefix), (id("c"), Unit::Prefix));
    places.refused(NOW, &id("c"), FailureClass::Fragmented);
    assert_eq!(choose(&places, NOW, Unit::Prefix), (id("home"), Unit::Address));
    // Single addresses came: that says nothing about prefixes.
    places.worked(&id("home"), Unit::Address, 1);
    assert!(places.single_only(NOW, &id("home")));
    let later = places.deadlines(NOW).max().unwrap();
    assert_eq!(choose(&places, later, Unit::Prefix), (id("home"), Unit::Prefix), "prefixes again later");
    places.worked(&id("home"), Unit::Prefix, 16);
    assert_eq!(places.deadlines(NOW).count(), 2, "the others' pauses");
}

#[test]
fn the_name_of_the_eni_config_as_the_reference_finds_it() {
    const EXTERNAL: &str = "vpc.amazonaws.com/externalEniConfig";
    let default = |label: &str| NamedBy::Default { annotation: KEY.into(), label: label.into() };
    type Row = (Tags, Tags, &'static str, &'static str, NamedBy);
    let rows: &[Row] = &[
        (&[(KEY, "az1")], &[], KEY, "az1", NamedBy::Label(KEY.into())),
        (&[(ZONE_KEY, "az2")], &[(KEY, "az1")], ZONE_KEY, "az1", NamedBy::Annotation(KEY.into())),
        (&[(ZONE_KEY, "az1")], &[], ZONE_KEY, "az1", NamedBy::Label(ZONE_KEY.into())),
        (&[(EXTERNAL, "custom"), (ZONE_KEY, "az2")], &[], ZONE_KEY, "custom", NamedBy::Label(EXTERNAL.into())),
        (&[(EXTERNAL, "custom")], &[(KEY, "az1")], KEY, "custom", NamedBy::Label(EXTERNAL.into())),
        (&[], &[], KEY, "default", default(KEY)),
        (&[(KEY, "")], &[(KEY, "")], KEY, "default", default(KEY)),
        (&[(KEY, "az1")], &[], ZONE_KEY, "default", default(ZONE_KEY)),
    ];
    for (labels, annotations, label, name, by) in rows {
        let node = NodeView { labels: texts(labels), annotations: texts(annotations), ..NodeView::default() };
        let keys = EniConfigKeys { annotation: KEY.into(), label: (*label).into() };
        assert_eq!(name_of_eni_config(&node, &keys), ((*name).to_owned(), by.clone()), "{labels:?} {annotations:?}");
    }
}

fn eni_config(name: &str, subnet: &str, groups: &[&str]) -> EniConfig {
    let security_groups = groups.iter().map(|group| (*group).to_owned()).collect();
    EniConfig { name: name.into(), subnet: subnet.into(), security_groups }
}

fn node_of(zone: &str) -> NodeView {
    NodeView { labels: texts(&[(ZONE_KEY, zone)]), ..NodeView::default() }
}

/// Custom networking as of a node of zone `a`, with the ENIConfig `a` as given, and every subnet there is listed.
fn with_config(config: EniConfig) -> Places {
    let mut places = Places::new(custom(ZONE_KEY), home());
    places.node(node_of("a"));
    places.eni_configs(vec![config, eni_config("b", "subnet-b", &[])]);
    if places.wants_list(NOW, false).is_some() {
        places.listed(NOW, everything());
    }
    places
}

fn everything() -> Vec<SubnetTruth> {
    let other_zone = SubnetTruth { zone: "us-west-2b".into(), ..subnet("b", 10, &[]) };
    let other_vpc = SubnetTruth { vpc: "vpc-2".parse().unwrap(), ..subnet("c", 10, &[]) };
    vec![subnet("home", 9, &[]), subnet("pods", 900, &[(ROLE, "0")]), other_zone, other_vpc]
}

#[test]
fn custom_networking_uses_the_eni_config_and_nothing_else() {
    let mut places = Places::new(custom(ZONE_KEY), home());
    assert_eq!(places.choose(NOW, Unit::Address), Err(NoPlace::NodeUnread), "never `default` for want of the node");
    places.node(node_of("a"));
    assert_eq!(places.choose(NOW, Unit::Address), Err(NoPlace::EniConfigsUnread));
    assert!(!places.is_settled());
    places.eni_configs(vec![eni_config("a", "subnet-pods", &["sg-1", " sg-2 "])]);
    assert_eq!(places.choose(NOW, Unit::Address), Err(NoPlace::Listing));
    assert_eq!(places.wants_list(NOW, false), Some(CloudCall::Subnets { also: vec![id("pods")] }));
    places.listed(NOW, everything());
    let choice = places.choose(NOW, Unit::Prefix).unwrap();
    assert_eq!(choice.place.subnet, id("pods"), "tags do not concern it");
    assert_eq!(choice.place.groups, ["sg-1".parse().unwrap(), "sg-2".parse().unwrap()]);
    assert_eq!((choice.unit, choice.net), (Unit::Prefix, Some(subnet("pods", 0, &[]).net)));
    assert!(places.is_settled());
    assert_eq!(places.take_news(), [], "nothing is wrong");
    places.refused(NOW, &id("pods"), FailureClass::Fragmented);
    assert_eq!(places.choose(NOW, Unit::Prefix).unwrap().unit, Unit::Address);
    places.refused(NOW, &id("pods"), FailureClass::SubnetExhausted);
    let refused = places.choose(NOW, Unit::Prefix);
    assert!(matches!(refused, Err(NoPlace::AllRefused { .. })), "no other subnet is used: {refused:?}");
}

#[test]
fn a_wrong_eni_config_is_named_with_the_way_out_and_said_once() {
    let many: Vec<String> = (0..17).map(|i| format!("sg-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let rows: &[(EniConfig, &str, &[&str])] = &[
        (eni_config("other", "subnet-pods", &[]), "EniConfigMissing", &["ENIConfig a ", ZONE_KEY, "create it"]),
        (eni_config("a", "", &[]), "EniConfigWrong", &["ENIConfig a ", "spec.subnet"]),
        (eni_config("a", "  ", &[]), "EniConfigWrong", &["spec.subnet"]),
        (eni_config("a", "vpc-1", &[]), "EniConfigWrong", &["spec.subnet", "`vpc-1`", "subnet-"]),
        (eni_config("a", "subnet-pods", &["sg-1", "default"]), "EniConfigWrong", &["securityGroups", "`default`"]),
        (eni_config("a", "subnet-pods", &many), "EniConfigWrong", &["17 groups", "16"]),
        (eni_config("a", "subnet-nowhere", &[]), "EniConfigWrong", &["subnet-nowhere", "EC2 knows no"]),
        (eni_config("a", "subnet-b", &[]), "EniConfigWrong", &["us-west-2b", "us-west-2a", "ENI_CONFIG_LABEL_DEF"]),
        (eni_config("a", "subnet-c", &[]), "EniConfigWrong", &["vpc-2", "vpc-1"]),
    ];
    for (config, reason, words) in rows {
        let mut places = with_config(config.clone());
        let wrong = places.choose(NOW, Unit::Address).expect_err("no place");
        let news = places.take_news();
        assert_eq!(news, [PlaceNews::Wrong(wrong.clone())], "{config:?}");
        let event = news[0].event().unwrap();
        assert_eq!((event.reason, event.warning), (*reason, true), "{config:?}");
        for word in *words {
            assert!(event.note.contains(word), "{word} in: {}", event.note);
        }
        // What is heard again and has not changed is not said again; what is right again is said.
        places.node(node_of("a"));
        assert_eq!(places.take_news(), [], "{config:?}");
        places.eni_configs(vec![eni_config("a", "subnet-pods", &["sg-1"])]);
        if places.wants_list(NOW, false).is_some() {
            places.listed(NOW, everything());
        }
        assert!(matches!(places.take_news().as_slice(), [PlaceNews::Right { .. }]), "{config:?}");
        assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.subnet, id("pods"));
    }
}

#[test]
fn sixteen_groups_are_not_too_many_and_none_are_the_primary_enis() {
    let most: Vec<String> = (0..16).map(|i| format!("sg-{i}")).collect();
    let most: Vec<&str> = most.iter().map(String::as_str).collect();
    let places = with_config(eni_config("a", "subnet-pods", &most));
    assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.groups.len(), 16);
    assert_eq!(places.groups_of(&id("pods")), None, "an ENIConfig's groups are never overwritten");
    let mut places = with_config(eni_config("a", "subnet-pods", &[]));
    assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.groups, home().groups);
    assert_eq!(places.groups_of(&id("pods")), Some(home().groups.as_slice()));
    assert_eq!(places.groups_of(&id("b")), None, "perhaps an earlier ENIConfig's");
    assert_eq!(places.take_news(), [PlaceNews::PrimaryGroups { config: "a".into() }]);
    let changed = vec!["sg-new".parse().unwrap()];
    places.groups(changed.clone());
    assert_eq!(places.groups_of(&id("pods")), Some(changed.as_slice()));
    assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.groups, changed);
    places.settings(discovery(None));
    assert_eq!(
        places.groups_of(&id("b")),
        Some(changed.as_slice()),
        "without custom networking all follow the primary ENI"
    );
}

#[test]
fn an_unknown_subnet_is_looked_up_again_after_a_growing_pause() {
    let mut places = with_config(eni_config("a", "subnet-later", &[]));
    assert_eq!(places.wants_list(NOW, true), None);
    let (mut now, mut pauses) = (NOW, vec![]);
    for _ in 0..10 {
        let at = places.deadlines(now).min().expect("looked up again some time");
        pauses.push(at.since(now).0);
        now = at;
        assert_eq!(places.wants_list(now, false), Some(CloudCall::Subnets { also: vec![id("later")] }));
        places.listed(now, everything());
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000, 120_000]);
    let at = places.deadlines(now).min().unwrap();
    assert!(places.wants_list(at, false).is_some());
    places.listed(at, [everything(), vec![subnet("later", 9, &[])]].concat());
    assert_eq!(places.choose(at, Unit::Address).unwrap().place.subnet, id("later"));
}

#[test]
fn enis_are_for_what_the_last_right_eni_config_says() {
    let mut places = with_config(eni_config("a", "subnet-pods", &["sg-1"]));
    let outside = EniRole::Retired(Retired::OutsideEniConfig);
    let roles = |places: &Places| [("home", 0), ("home", 1), ("pods", 2)].map(|(s, d)| places.role_of(&eni(s, d)));
    let primary = EniRole::Retired(Retired::PrimaryOfCustomNetworking);
    assert_eq!(roles(&places), [primary, outside, EniRole::Pods]);
    // Gone, wrong in every way, or named otherwise: nothing is torn down.
    for configs in [
        vec![],
        vec![eni_config("a", "", &[])],
        vec![eni_config("a", "subnet-c", &[])],
        vec![eni_config("a", "subnet-nowhere", &[])],
        vec![eni_config("b", "subnet-pods", &[])],
    ] {
        places.eni_configs(configs.clone());
        if places.wants_list(NOW, false).is_some() {
            places.listed(NOW, everything());
        }
        assert!(places.choose(NOW, Unit::Address).is_err(), "{configs:?}");
        assert_eq!(roles(&places), [primary, outside, EniRole::Pods], "{configs:?}");
        assert!(places.is_settled());
    }
    places.eni_configs(vec![eni_config("a", "subnet-home", &["sg-1"])]);
    assert_eq!(roles(&places), [primary, EniRole::Pods, outside]);
    places.settings(discovery(None));
    assert_eq!(roles(&places), [EniRole::Pods, EniRole::Pods, EniRole::Retired(Retired::SubnetExcluded)]);
}

#[test]
fn before_an_eni_config_was_seen_enis_of_other_subnets_get_pods_and_nothing_is_final() {
    let mut places = Places::new(custom(ZONE_KEY), home());
    assert_eq!(
        places.role_of(&eni("pods", 1)),
        EniRole::Pods,
        "an ENIConfig made it; the API server may be away for long"
    );
    assert_eq!(places.role_of(&eni("home", 1)), EniRole::Retired(Retired::OutsideEniConfig));
    assert!(!places.is_settled());
    // Listing is denied: EC2 itself says that the ENIConfig is right.
    places.node(node_of("a"));
    places.eni_configs(vec![eni_config("a", "subnet-home", &["sg-1"])]);
    assert!(places.wants_list(NOW, true).is_some());
    places.list_failed(NOW, &failure(FailureClass::Unauthorized));
    assert_eq!(places.choose(NOW, Unit::Address).unwrap().place.subnet, id("home"));
    assert!(!places.is_settled());
    places.worked(&id("home"), Unit::Address, 1);
    assert!(places.is_settled());
    assert_eq!(places.role_of(&eni("home", 1)), EniRole::Pods);
}
