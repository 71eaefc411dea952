//! The states a node is in under the settings that matter, line by line as `ip rule` and `ip route` would print them.

use crate::support::*;
use vpc_hostnet::*;
use vpc_model::RouteTable;

const KERNEL: [&str; 3] = ["0: from all lookup local", "32766: from all lookup main", "32767: from all lookup default"];
const PODS: [&str; 3] = [
    "512: from all to 10.20.9.31 lookup main",
    "512: from all to 10.20.10.201 lookup main",
    "1536: from 10.20.10.201 lookup 2",
];
const ENI: &str = "32765: from 10.20.10.87 lookup 2";
const MARKED: &str = "1024: from all fwmark 0x80/0x80 lookup main";

fn expect_rules(host: &PaperHost, more: &[&str]) {
    let mut want: Vec<&str> = KERNEL.iter().chain(&PODS).chain([&ENI]).chain(more).copied().collect();
    let mut got = rules(host);
    want.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, want);
}

fn with(change: impl FnOnce(&mut HostSettings)) -> (PaperHost, Filter) {
    let mut view = view();
    change(&mut view.settings);
    let mut host = node(&view);
    assert_eq!(settle(&mut host, &view), [], "wiring and daemon agree on what a pod needs");
    let filter = desired(&view, &host.observe()).unwrap().filter;
    (host, filter)
}

#[test]
fn defaults_give_the_rules_and_routes_of_the_reference() {
    let (host, filter) = with(|_| ());
    expect_rules(&host, &[MARKED]);
    let main = [
        "default via 10.20.8.1 dev eth0",
        "10.20.8.0/22 dev eth0 scope link src 10.20.11.162",
        "10.20.9.31 dev eni0d7763386da scope link",
        "10.20.10.201 dev eni0761ccbeace scope link",
    ];
    assert_eq!(routes(&host, 254), set(main));
    assert_eq!(routes(&host, 2), set(["default via 10.20.8.1 dev eth1", "10.20.8.1 dev eth1 scope link"]));
    let want = Filter {
        primary_link: link("eth0"),
        primary_address: ip("10.20.11.162"),
        veth_prefix: vpc_model::VethPrefix::default(),
        mark: Mark { value: 0x80, mask: 0x80 },
        node_port: true,
        snat: Some(SnatRandom::Prng),
        exempt: vec![net("10.20.0.0/16"), net("100.64.0.0/16")],
    };
    assert_eq!(filter, want);
}

#[test]
fn defaults_set_the_links_as_the_reference_does() {
    let (host, _) = with(|settings| settings.eni_mtu = 1500);
    let state = host.observe();
    let (eth0, eth1) = (state.link(&link("eth0")).unwrap(), state.link(&link("eth1")).unwrap());
    assert_eq!((eth0.mtu, eth0.up, eth0.rp_filter), (1500, true, Some(RpFilter::Loose)));
    assert_eq!((eth1.mtu, eth1.up, eth1.rp_filter), (1500, true, Some(RpFilter::Strict)));
    assert_eq!(eth1.addresses, [net("10.20.10.87/22")].into());
    assert_eq!(state.link(&link("eni0761ccbeace")).unwrap().mtu, 9001, "running pods keep theirs");
}

#[test]
fn exclusions_and_external_services() {
    let (host, filter) = with(|settings| {
        // Host bits, an overlap and a duplicate: as people write them.
        settings.exclude_snat = vec![net("10.13.4.5/16"), net("10.12.0.0/16"), net("10.20.4.0/24")];
        settings.external_services = vec![net("203.0.113.0/24"), net("198.51.100.0/24"), net("203.0.113.9/24")];
        settings.snat_random = SnatRandom::HashRandom;
    });
    let services =
        ["1535: from all to 198.51.100.0/24 lookup main", "1535: from all to 203.0.113.0/24 lookup main", MARKED];
    expect_rules(&host, &services);
    assert_eq!(filter.exempt, [net("10.12.0.0/15"), net("10.20.0.0/16"), net("100.64.0.0/16")]);
    assert_eq!(filter.snat, Some(SnatRandom::HashRandom));
}

#[test]
fn excluding_everything_exempts_everything() {
    let (_, filter) = with(|settings| settings.exclude_snat = vec![net("0.0.0.0/0")]);
    assert_eq!(filter.exempt, [net("0.0.0.0/0")]);
}

#[test]
fn which_parts_are_present() {
    // External SNAT, NodePort; rule 1024; the filter translates; it marks.
    for (external_snat, node_port, rule, translates, marks) in [
        (false, true, true, true, true),
        (true, true, true, false, true),
        (true, false, false, false, false),
        (false, false, true, true, true),
    ] {
        let (host, filter) = with(|settings| {
            settings.external_snat = external_snat;
            settings.node_port = node_port;
        });
        expect_rules(&host, if rule { &[MARKED] } else { &[] });
        assert_eq!(filter.snat.is_some(), translates, "external SNAT {external_snat}, NodePort {node_port}");
        assert_eq!((filter.node_port, filter.marks()), (node_port, marks));
    }
}

#[test]
fn an_eni_without_a_link_is_missing_not_wrong() {
    let mut view = view();
    view.secondary.push(eni(2, "10.20.34.9", "10.20.32.0/20"));
    let mut host = machine();
    let wanted = desired(&view, &host.observe()).unwrap();
    assert_eq!(wanted.missing, [mac(2)]);
    settle(&mut host, &view);
    host.attach(&link("eth2"), mac(2), 9001).unwrap();
    settle(&mut host, &view);
    assert_eq!(routes(&host, 3), set(["default via 10.20.32.1 dev eth2", "10.20.32.1 dev eth2 scope link"]));
    assert!(rules(&host).contains(&"32765: from 10.20.34.9 lookup 3".to_owned()));
    assert_eq!(routes(&host, 254).len(), 2, "no connected route of a secondary ENI in main");
}

#[test]
fn views_that_give_no_state_are_named() {
    let state = machine().observe();
    let says = |change: fn(&mut HostView)| {
        let mut view = view();
        change(&mut view);
        desired(&view, &state).unwrap_err()
    };
    let (zero, one, two) = (mac(0), mac(1), mac(2));
    assert_eq!(says(|v| v.primary.mac = mac(9)), DesiredError::PrimaryLinkMissing { mac: mac(9) });
    assert_eq!(says(|v| v.vpc_cidrs.clear()), DesiredError::NoVpcCidrs);
    assert_eq!(says(|v| v.secondary.push(v.secondary[0].clone())), DesiredError::SameMac { mac: one });
    let twice = says(|v| v.secondary.push(EniOnHost { mac: mac(2), ..v.secondary[0].clone() }));
    assert_eq!(twice, DesiredError::SameTable { table: RouteTable(2), first: one, second: two });
    let main = says(|v| v.secondary.push(eni(0, "10.20.10.9", "10.20.8.0/22")));
    assert_eq!(main, DesiredError::SameMac { mac: zero });
}

#[test]
fn a_fingerprint_is_of_the_meaning() {
    let state = machine().observe();
    let base = desired(&view(), &state).unwrap().filter;
    let print = |change: fn(&mut HostView)| {
        let mut view = view();
        change(&mut view);
        desired(&view, &state).unwrap().filter.fingerprint()
    };
    // Written down: the text must be the same in every build, or each upgrade would replace the table of every node.
    assert_eq!(base.fingerprint(), "1:7dd4b879e5ecc133aa5a14ba37b3562fa5a5f35f");
    assert_eq!(print(|view| view.vpc_cidrs.reverse()), base.fingerprint());
    assert_eq!(print(|view| view.settings.exclude_snat.push(net("10.20.7.0/24"))), base.fingerprint());
    let changes: [fn(&mut HostView); 8] = [
        |view| view.vpc_cidrs.truncate(1),
        |view| view.settings.exclude_snat.push(net("10.30.0.0/16")),
        |view| view.settings.external_snat = true,
        |view| view.settings.node_port = false,
        |view| view.settings.snat_random = SnatRandom::None,
        |view| view.settings.mark = 0x100,
        |view| view.settings.veth_prefix = "pod".parse().unwrap(),
        |view| view.primary.primary_address = ip("10.20.11.163"),
    ];
    let mut prints: Vec<String> = changes.map(print).to_vec();
    prints.push(base.fingerprint());
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), 9, "each change of meaning has a text of its own");
}
