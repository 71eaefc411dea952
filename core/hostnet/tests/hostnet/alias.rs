//! The text on a host veth: readable, exact, never ambiguous.

use proptest::prelude::*;
use vpc_hostnet::{LinkAlias, ParseAliasError};
use vpc_model::{PodRef, SandboxKey};

const CONTAINER: &str = "3f0cb2aa4de1f6f0b0c9d7e58a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c9a";

fn pod(namespace: &str, name: &str) -> PodRef {
    PodRef { namespace: namespace.into(), name: name.into() }
}

fn of(network: &str, container: &str, pod: &PodRef) -> LinkAlias {
    on(network, container, "eth0", pod)
}

fn on(network: &str, container: &str, interface: &str, pod: &PodRef) -> LinkAlias {
    LinkAlias::of(
        &SandboxKey { network: network.into(), container: container.into(), interface: interface.into() },
        pod,
    )
}

#[test]
fn the_text_is_readable_as_it_stands() {
    let alias = of("aws-cni", CONTAINER, &pod("default", "web-0"));
    assert_eq!(alias.to_string(), format!("vpc-cni/1 aws-cni {CONTAINER} default/web-0"));
    assert!(!alias.is_shortened());
    let key = SandboxKey { network: "aws-cni".into(), container: CONTAINER.into(), interface: "eth0".into() };
    assert_eq!(LinkAlias::of(&key, &pod("default", "web-0")), alias);
}

#[test]
fn a_pod_without_a_name_has_an_alias_too() {
    let alias = of("aws-cni", "c1", &PodRef::default());
    assert_eq!(alias.to_string(), "vpc-cni/1 aws-cni c1 /");
    assert_eq!("vpc-cni/1 aws-cni c1 /".parse(), Ok(alias));
}

#[test]
fn sandboxes_of_one_pod_are_known_by_its_name_whole_or_cut() {
    let of =
        |network: &str, container: &str, namespace: &str, name: &str| of(network, container, &pod(namespace, name));
    let long = "n".repeat(253);
    for (same, a, b) in [
        (true, of("aws-cni", "c1", "default", "web-0"), of("aws-cni", "c2", "default", "web-0")),
        (true, of("aws-cni", "c1", "default", &long), of("aws-cni", CONTAINER, "default", &long)),
        (false, of("aws-cni", "c1", "default", "web-0"), of("aws-cni", "c2", "default", "web-01")),
        (false, of("aws-cni", "c1", "default", "web-0"), of("aws-cni", "c2", "other", "web-0")),
        (false, of("aws-cni", "c1", "default", &long), of("aws-cni", "c2", "other", &long)),
        (false, of("aws-cni", "c1", "", ""), of("aws-cni", "c2", "", "")),
        (false, of("aws-cni", "c1", "default", "web-0"), of("aws-cni", "c1", "", "")),
    ] {
        assert_eq!((a.is_of_same_pod(&b), b.is_of_same_pod(&a)), (same, same), "{a} and {b}");
    }
}

#[test]
fn an_interface_that_is_not_the_first_is_named_and_takes_no_other_s_place() {
    let pod = pod("default", "web-0");
    let (first, second) = (of("aws-cni", "c1", &pod), on("aws-cni", "c1", "net1", &pod));
    assert_eq!(second.to_string(), "vpc-cni/1 aws-cni c1/net1 default/web-0");
    assert_eq!(second.to_string().parse(), Ok(second.clone()));
    assert_eq!((second.sandbox().interface.as_str(), second.container()), ("net1", "c1"));
    assert!(!first.is_of_same_pod(&second) && !second.is_of_same_pod(&first));
    assert!(!first.is_of_same_pod(&of("other", "c1", &pod)), "of another network");
    // The pod's next sandbox takes the place of either.
    assert!(on("aws-cni", "c2", "net1", &pod).is_of_same_pod(&first) && second.is_of_same_pod(&of("b", "c2", &pod)));
    assert!(!first.is_written(&second.to_string()) && second.is_written(&second.to_string()));
}

#[test]
fn what_does_not_fit_is_shortened_and_says_so() {
    let namespace = "n".repeat(63);
    let (one, other) = ("p".repeat(252) + "a", "p".repeat(252) + "b");
    let alias = |name: &str| of("aws-cni", CONTAINER, &pod(&namespace, name));
    let text = alias(&one).to_string();
    assert_eq!(text.len(), 255);
    assert!(text.starts_with("vpc-cni/1~"));
    let read: LinkAlias = text.parse().unwrap();
    assert!(read.is_shortened());
    assert_eq!((read.network(), read.container()), ("aws-cni", CONTAINER));
    assert_eq!(read.pod().namespace, namespace);
    assert!(one.starts_with(&read.pod().name) && !read.pod().name.is_empty());
    assert_eq!(read, alias(&one));
    assert_ne!(read, alias(&other), "two long names with one beginning stay apart");
}

#[test]
fn what_is_not_ours_is_told_from_what_is_damaged() {
    let parse = |text: &str| text.parse::<LinkAlias>().unwrap_err();
    for text in ["", "uplink to rack 4", "vpc-cni", "VPC-CNI/1 a b c/d"] {
        assert_eq!(parse(text), ParseAliasError::Foreign(text.into()));
    }
    for text in ["vpc-cni/2 a b c/d", "vpc-cni/10 a", "vpc-cni/ a b c/d"] {
        assert_eq!(parse(text), ParseAliasError::Version(text.into()));
    }
    let long = format!("vpc-cni/1 a b c/{}", "d".repeat(250));
    for text in [
        "vpc-cni/1",
        "vpc-cni/1 a b",
        "vpc-cni/1 a b c",
        "vpc-cni/1 a b c/d/e",
        "vpc-cni/1 a b/eth0 c/d",
        "vpc-cni/1 a b/net1/net2 c/d",
        "vpc-cni/1 a b c/d ",
        "vpc-cni/1 a b c/%",
        "vpc-cni/1 a b c/%4",
        "vpc-cni/1 a b c/%41",
        "vpc-cni/1 a b c/%ff",
        "vpc-cni/1 a b c/%FF",
        "vpc-cni/1~12 a b c/d",
        "vpc-cni/1~ a b c/d",
        &long,
    ] {
        assert_eq!(parse(text), ParseAliasError::Damaged(text.into()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_owner_has_one_text_and_every_text_one_owner(
        network in ".{0,60}",
        container in "[a-z0-9]{0,90}|.{0,20}",
        namespace in "[a-z0-9-]{0,63}|.{0,20}",
        interface in "eth0|net1|.{0,20}",
        name in "[a-z0-9.-]{0,253}|.{0,90}",
        another in "[a-z0-9.-]{0,253}",
    ) {
        let alias = on(&network, &container, &interface, &pod(&namespace, &name));
        let text = alias.to_string();
        prop_assert!(text.len() <= 255, "{} bytes", text.len());
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
        prop_assert_eq!(text.parse::<LinkAlias>(), Ok(alias.clone()));
        if !alias.is_shortened() {
            let read = alias.sandbox();
            prop_assert_eq!((&read.network, &read.container, &read.interface), (&network, &container, &interface));
            prop_assert_eq!(alias.pod(), &pod(&namespace, &name));
        }
        if another != name {
            prop_assert_ne!(on(&network, &container, &interface, &pod(&namespace, &another)).to_string(), &*text);
        }
        if interface != "net9" {
            prop_assert_ne!(on(&network, &container, "net9", &pod(&namespace, &name)).to_string(), text);
        }
    }
}

#[test]
fn the_text_of_an_owner_is_the_same_by_every_way_to_it() {
    let long = "n".repeat(250);
    for (network, container, namespace, name) in [
        ("aws-cni", "3f0c", "default", "web-0"),
        ("aws cni", "a/b", "ns%", "\u{fc}"),
        ("", "", "", ""),
        ("aws-cni", "3f0c", "default", long.as_str()),
    ] {
        let sandbox = SandboxKey { network: network.into(), container: container.into(), interface: "eth0".into() };
        let pod = PodRef { namespace: namespace.into(), name: name.into() };
        let alias = LinkAlias::of(&sandbox, &pod);
        let text = LinkAlias::text_of(&sandbox, &pod);
        assert_eq!(text, alias.to_string());
        assert_eq!(text.parse(), Ok(alias.clone()));
        assert!(alias.is_written(&text));
        assert!(!alias.is_written(&format!("{text}x")) && !alias.is_written("") && !alias.is_written("vpc-cni/1"));
        assert!(text.get(..text.len() - 1).is_none_or(|shorter| !alias.is_written(shorter)));
    }
}
