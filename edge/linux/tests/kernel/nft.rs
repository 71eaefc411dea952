use vpc_hostnet::Mark;
use vpc_linux::nft::{
    AddressType, BaseChain, Batch, Chain, ChainKind, CmpOp, CtDirection, Data, DataKind, Element, Expr, Family, Hook,
    IfName, KeyPart, KeyType, NatFlags, NatKind, Nft, PayloadBase, Reg, Rule, Selector, Set, Table, Test, Value,
    Verdict, ct_state, ct_status, priority,
};
use vpc_linux::{Errno, LinkChange, Netns, Rtnl};

use crate::sandbox::{includes, ip, mac, name, net, other_eyes, sandboxed};

fn table() -> Table {
    Table::new(Family::Ip, "test")
}

fn filter_chain() -> Chain {
    Chain::base("pre", BaseChain::new(ChainKind::Filter, Hook::Prerouting, priority::MANGLE))
}

/// The expressions of the rules that `nft -j list table ip test` shows.
fn listed(test: &str) -> Option<Vec<serde_json::Value>> {
    let seen = other_eyes(test, "nft", &["-j", "list", "table", "ip", "test"])?;
    let items = seen["nftables"].as_array().unwrap();
    Some(items.iter().filter(|item| item["rule"].is_object()).map(|item| item["rule"]["expr"].clone()).collect())
}

#[test]
fn every_kind_of_rule_is_taken_and_reads_as_meant() {
    const TEST: &str = "nft::every_kind_of_rule_is_taken_and_reads_as_meant";
    sandboxed(TEST, || {
        let mut nft = Nft::open().unwrap();
        let eni = IfName::Prefix("eni".to_owned());
        let bit = Mark::bits(0x80);
        let rules = [
            (Rule::new().iif(Test::Is, 1).accept(), r#"{"meta":{"key":"iif"}}"#),
            (
                Rule::new().iifname(Test::Is, &IfName::Is(name("eth0"))).accept(),
                r#"{"left":{"meta":{"key":"iifname"}},"op":"==","right":"eth0"}"#,
            ),
            (Rule::new().iifname(Test::Not, &eni).drop(), r#"{"op":"!=","right":"eni*"}"#),
            (Rule::new().iifname(Test::Is, &IfName::Prefix(String::new())).accept(), r#"[{"accept":null}]"#),
            (Rule::new().ip_source(Test::Is, net("10.20.0.0/16")).go_back(), r#"{"addr":"10.20.0.0","len":16}"#),
            (Rule::new().ip_destination(Test::Not, net("10.20.0.1/32")).drop(), r#"{"op":"!=","right":"10.20.0.1"}"#),
            (Rule::new().ip_protocol(Test::Is, 1).accept(), r#"{"right":"icmp"}"#),
            (Rule::new().ttl(CmpOp::Lt, 2).drop(), r#"{"op":"<","left":{"payload":{"field":"ttl"}},"right":2}"#),
            (Rule::new().set_ttl(64), r#"{"mangle":{"key":{"payload":{"protocol":"ip","field":"ttl"}},"value":64}}"#),
            (
                Rule::new().destination_port(6, 80).accept(),
                r#"{"left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}"#,
            ),
            (
                Rule::new().source_port(17, 53).accept(),
                r#"{"left":{"payload":{"protocol":"udp","field":"sport"}},"right":53}"#,
            ),
            (
                Rule::new().destination_ports(6, 8000, 8080).accept(),
                r#"{"left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"range":[8000,8080]}}"#,
            ),
            (
                Rule::new().destination_ports(17, 53, 53).accept(),
                r#"{"left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}"#,
            ),
            (
                Rule::new().icmp(3, Some(4)).accept(),
                r#"{"left":{"payload":{"protocol":"icmp","field":"type"}},"right":"destination-unreachable"}"#,
            ),
            (
                Rule::new().icmp(3, Some(4)).accept(),
                r#"{"left":{"payload":{"protocol":"icmp","field":"code"}},"right":"frag-needed"}"#,
            ),
            (Rule::new().icmp(8, None).accept(), r#"{"right":"echo-request"}"#),
            (Rule::new().route_oif(Test::Is, 1).drop(), r#"{"result":"oif","flags":["daddr","mark"]}"#),
            (Rule::new().l4_protocol(Test::Not, 6).accept(), r#"{"op":"!=","left":{"meta":{"key":"l4proto"}}}"#),
            (
                Rule::new().ct_state(ct_state::NEW | ct_state::RELATED).accept(),
                r#"{"left":{"ct":{"key":"state"}},"right":["related","new"]}"#,
            ),
            (Rule::new().ct_status(ct_status::DNAT).accept(), r#"{"left":{"ct":{"key":"status"}},"right":"dnat"}"#),
            (Rule::new().ct_direction(CtDirection::Reply).accept(), r#"{"right":"reply"}"#),
            (Rule::new().ct_mark(Test::Is, bit).set_mark(bit), r#"{"mangle":{"key":{"meta":{"key":"mark"}}}}"#),
            (Rule::new().mark(Test::Not, bit).set_ct_mark(bit), r#"{"mangle":{"key":{"ct":{"key":"mark"}}}}"#),
            (
                Rule::new().destination_type(Test::Is, AddressType::Local, true).accept(),
                r#"{"result":"type","flags":["daddr","iif"]}"#,
            ),
            (Rule::new().counter().jump("side"), r#"{"jump":{"target":"side"}}"#),
            (Rule::new().goto("side"), r#"{"goto":{"target":"side"}}"#),
            (Rule::new().then(Expr::Log { prefix: "hello ".to_owned() }), r#"{"log":{"prefix":"hello "}}"#),
            (
                Rule::new()
                    .then(Expr::Payload { base: PayloadBase::Network, offset: 8, length: 1, into: Reg::A })
                    .then(Expr::Range { reg: Reg::A, inverted: false, from: vec![16], to: vec![32] })
                    .accept(),
                r#"{"range":[16,32]}"#,
            ),
        ];
        let table = table();
        let mut batch = Batch::new();
        batch
            .replace_table(&table, Some("a comment"))
            .add_chain(&table, &filter_chain())
            .add_chain(&table, &Chain::regular("side"));
        for (rule, _) in &rules {
            batch.add_rule(&table, "pre", rule);
        }
        nft.commit(batch).unwrap();
        let seen = nft.rules(&table).unwrap();
        assert_eq!(seen.len(), rules.len());
        assert_eq!(nft.table(&table).unwrap().unwrap().comment.as_deref(), Some("a comment"));
        let chains = nft.chains(&table).unwrap();
        assert_eq!(chains[0].base, Some(("filter".to_owned(), 0, -150)));
        assert_eq!((chains[1].name.as_str(), &chains[1].base), ("side", &None));
        let Some(listed) = listed(TEST) else { return };
        for ((_, wanted), seen) in rules.iter().zip(&listed) {
            assert!(includes(seen, wanted), "{wanted} in {seen}");
        }
    });
}

#[test]
fn translation_and_rejection_go_where_the_kernel_allows_them() {
    const TEST: &str = "nft::translation_and_rejection_go_where_the_kernel_allows_them";
    sandboxed(TEST, || {
        let mut nft = Nft::open().unwrap();
        let table = table();
        let chain = |name, kind, hook, priority| Chain::base(name, BaseChain::new(kind, hook, priority));
        let public = Set::of("public", &[KeyType::Ipv4Addr]).to(DataKind::Value(KeyType::Ipv4Addr));
        let fully = NatFlags { fully_random: true, ..NatFlags::default() };
        let mut batch = Batch::new();
        batch
            .replace_table(&table, None)
            .add_set(&table, &public)
            .add_chain(&table, &chain("dst", ChainKind::Nat, Hook::Prerouting, priority::DSTNAT))
            .add_chain(&table, &chain("src", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT))
            .add_chain(&table, &chain("fwd", ChainKind::Filter, Hook::Forward, priority::FILTER))
            .add_chain(&table, &chain("raw", ChainKind::Filter, Hook::Prerouting, priority::RAW))
            .add_rule(
                &table,
                "dst",
                &Rule::new().nat_from_map(
                    NatKind::Destination,
                    &[Selector::IpDestination],
                    "public",
                    NatFlags::default(),
                ),
            )
            .add_rule(&table, "dst", &Rule::new().destination_port(6, 80).dnat(ip("10.0.0.1"), Some(8080)))
            .add_rule(&table, "src", &Rule::new().snat(ip("10.0.0.2"), fully).comment("out"))
            .add_rule(
                &table,
                "src",
                &Rule::new().masquerade(NatFlags { random: true, persistent: true, ..NatFlags::default() }),
            )
            .add_rule(&table, "fwd", &Rule::new().then(Expr::Reject { code: 13 }))
            .add_rule(&table, "fwd", &Rule::new().l4_protocol(Test::Is, 6).then(Expr::ClampMss))
            .add_rule(&table, "raw", &Rule::new().then(Expr::NoTrack));
        nft.commit(batch).unwrap();
        assert_eq!(nft.rules(&table).unwrap().iter().filter(|rule| rule.comment.as_deref() == Some("out")).count(), 1);
        let Some(listed) = listed(TEST) else { return };
        let all = serde_json::Value::from(listed);
        for wanted in [
            r#"{"dnat":{"addr":{"map":{"data":"@public"}}}}"#,
            r#"{"dnat":{"addr":"10.0.0.1","port":8080}}"#,
            r#"{"snat":{"addr":"10.0.0.2"}}"#,
            r#"{"masquerade":{"flags":["random","persistent"]}}"#,
            r#"{"reject":{"type":"icmp","expr":"admin-prohibited"}}"#,
            r#"{"mangle":{"value":{"rt":{"key":"mtu"}}}}"#,
            r#"{"notrack":null}"#,
        ] {
            assert!(includes(&all, wanted), "{wanted} in\n{all}");
        }
    });
}

#[test]
fn sets_and_maps_of_every_shape_hold_what_was_put_in() {
    const TEST: &str = "nft::sets_and_maps_of_every_shape_hold_what_was_put_in";
    sandboxed(TEST, || {
        let mut nft = Nft::open().unwrap();
        let table = table();
        let source = Set::of("source", &[KeyType::IfIndex, KeyType::EtherAddr, KeyType::Ipv4Addr]);
        let nets = Set::of("nets", &[KeyType::Ipv4Addr]).with_intervals();
        let both = Set::of("both", &[KeyType::Ipv4Addr, KeyType::Port]).with_intervals();
        let marks = Set::of("marks", &[KeyType::Ipv4Addr]).to(DataKind::Value(KeyType::Mark));
        let ways = Set::of("ways", &[KeyType::IfName]).to(DataKind::Verdict);
        let bound = |last: u8| {
            Element::new([Value::IfIndex(1).into(), mac(last).into(), std::net::Ipv4Addr::new(10, 0, 0, last).into()])
        };
        let network = |text: &str| Element::new([KeyPart::Net(net(text))]);
        let mut batch = Batch::new();
        batch
            .replace_table(&table, None)
            .add_chain(&table, &filter_chain())
            .add_chain(&table, &Chain::regular("side"))
            .add_set(&table, &source)
            .add_set(&table, &nets)
            .add_set(&table, &both)
            .add_set(&table, &marks)
            .add_set(&table, &ways)
            .add_elements(&table, &source, &[bound(1), bound(2)])
            // Neighbours, one at the end of all addresses, one of a single address.
            .add_elements(&table, &nets, &["10.20.0.0/16", "10.21.0.0/16", "255.255.0.0/16", "1.2.3.4/32"].map(network))
            .add_elements(
                &table,
                &both,
                &[Element::new([net("10.0.0.0/8").into(), KeyPart::Range(Value::Port(80), Value::Port(90))])],
            )
            .add_elements(&table, &marks, &[Element::new([ip("10.0.0.1").into()]).to(Data::Value(Value::Mark(3)))])
            .add_elements(
                &table,
                &ways,
                &[
                    Element::new([Value::IfName("eth0".into()).into()]).to(Data::Verdict(Verdict::Goto("side".into()))),
                    Element::new([Value::IfName("eth1".into()).into()]).to(Data::Verdict(Verdict::Drop)),
                ],
            )
            .add_rule(
                &table,
                "pre",
                &Rule::new()
                    .in_set(Test::Not, &[Selector::Iif, Selector::EtherSource, Selector::IpSource], "source")
                    .counter(),
            )
            .add_rule(&table, "pre", &Rule::new().in_set(Test::Is, &[Selector::IpDestination], "nets").counter())
            .add_rule(&table, "pre", &Rule::new().set_mark_from_map(&[Selector::IpSource], "marks"))
            .add_rule(&table, "pre", &Rule::new().verdict_map(&[Selector::IifName], "ways"));
        nft.commit(batch).unwrap();

        let sets = nft.sets(&table).unwrap();
        let names: Vec<_> =
            sets.iter().map(|set| (set.name.as_str(), set.is_map, set.intervals, set.key_length)).collect();
        assert_eq!(
            names,
            [
                ("source", false, false, 16),
                ("nets", false, true, 4),
                ("both", false, true, 8),
                ("marks", true, false, 4),
                ("ways", true, false, 16),
            ]
        );
        assert_eq!(nft.elements(&table, "source").unwrap().len(), 2);
        let members =
            nft.elements(&table, "nets").unwrap().into_iter().filter(|element| !element.ends_interval).count();
        assert_eq!(members, 4);
        let pair = nft.elements(&table, "both").unwrap();
        assert_eq!(pair[0].key, [10, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(pair[0].key_end.as_deref(), Some(&[10, 255, 255, 255, 0, 90, 0, 0][..]));
        assert_eq!(nft.elements(&table, "marks").unwrap()[0].value.as_deref(), Some(&3_u32.to_ne_bytes()[..]));
        assert!(nft.elements(&table, "ways").unwrap().iter().any(|element| element.chain.as_deref() == Some("side")));

        if let Some(seen) = other_eyes(TEST, "nft", &["-j", "list", "table", "ip", "test"]) {
            for wanted in [
                r#"{"type":["iface_index","ether_addr","ipv4_addr"]}"#,
                r#"{"concat":["lo","0a:00:00:00:00:01","10.0.0.1"]}"#,
                r#"{"prefix":{"addr":"10.20.0.0","len":16}}"#,
                r#"{"prefix":{"addr":"255.255.0.0","len":16}}"#,
                r#""1.2.3.4""#,
                r#"{"concat":[{"prefix":{"addr":"10.0.0.0","len":8}},{"range":[80,90]}]}"#,
                r#"["10.0.0.1",3]"#,
                r#"["eth0",{"goto":{"target":"side"}}]"#,
                r#"{"op":"!=","right":"@source"}"#,
            ] {
                assert!(includes(&seen, wanted), "{wanted} in\n{seen}");
            }
        }
        let mut batch = Batch::new();
        batch.delete_elements(&table, &nets, &[network("10.21.0.0/16")]).delete_elements(&table, &source, &[bound(1)]);
        nft.commit(batch).unwrap();
        assert_eq!(nft.elements(&table, "source").unwrap().len(), 1);
        let mut batch = Batch::new();
        batch.flush_set(&table, "nets");
        nft.commit(batch).unwrap();
        assert_eq!(nft.elements(&table, "nets").unwrap(), []);
    });
}

#[test]
fn zones_times_to_live_and_counting_elements() {
    const TEST: &str = "nft::zones_times_to_live_and_counting_elements";
    sandboxed(TEST, || {
        let mut nft = Nft::open().unwrap();
        let table = table();
        let zones = Set::of("zones", &[KeyType::IfIndex]).to(DataKind::Value(KeyType::CtZone));
        let times = Set::of("times", &[KeyType::Ttl]).to(DataKind::Value(KeyType::Ttl));
        let seen = Set::of("seen", &[KeyType::Ipv4Addr]).counting();
        let element = |value: Value| Element::new([KeyPart::Is(value)]);
        let loopback = std::net::Ipv4Addr::LOCALHOST;
        let mut batch = Batch::new();
        batch
            .replace_table(&table, None)
            .add_set(&table, &zones)
            .add_set(&table, &times)
            .add_set(&table, &seen)
            .add_chain(&table, &Chain::base("out", BaseChain::new(ChainKind::Filter, Hook::Output, priority::RAW)))
            .add_chain(&table, &Chain::base("pre", BaseChain::new(ChainKind::Filter, Hook::Prerouting, priority::RAW)))
            .add_elements(&table, &zones, &[element(Value::IfIndex(1)).to(Data::Value(Value::Zone(7)))])
            .add_elements(&table, &times, &[element(Value::Ttl(40)).to(Data::Value(Value::Ttl(41)))])
            .add_elements(&table, &seen, &[element(loopback.into()), element(ip("10.0.0.1").into())])
            .add_rule(&table, "out", &Rule::new().set_ct_zone_from_map(&[Selector::Oif], "zones"))
            .add_rule(&table, "out", &Rule::new().set_ttl_from_map(&[Selector::Ttl], "times"))
            .add_rule(&table, "out", &Rule::new().in_set(Test::Is, &[Selector::IpDestination], "seen"))
            .add_rule(&table, "pre", &Rule::new().ttl(CmpOp::Eq, 41).counter().comment("changed"))
            .add_rule(&table, "pre", &Rule::new().no_track());
        nft.commit(batch).unwrap();

        let elements = nft.elements(&table, "zones").unwrap();
        assert_eq!(elements[0].value.as_deref(), Some(&7_u16.to_ne_bytes()[..]));
        Rtnl::open().unwrap().set_link(&name("lo"), &LinkChange::up()).unwrap();
        let socket = std::net::UdpSocket::bind((loopback, 0)).unwrap();
        socket.set_ttl(40).unwrap();
        socket.send_to(b"hello", (loopback, 9)).unwrap();
        socket.set_ttl(50).unwrap();
        socket.send_to(b"hello", (loopback, 9)).unwrap();
        let counters: Vec<_> = nft.elements(&table, "seen").unwrap().into_iter().map(|e| (e.key, e.counter)).collect();
        // The two datagrams of 33 bytes, and what the kernel said about the closed port (61 bytes each).
        assert!(counters.contains(&(vec![127, 0, 0, 1], Some((4, 2 * 33 + 2 * 61)))), "{counters:?}");
        assert!(counters.contains(&(vec![10, 0, 0, 1], Some((0, 0)))), "{counters:?}");
        let rules = nft.rules(&table).unwrap();
        let changed = rules.iter().find(|rule| rule.comment.as_deref() == Some("changed")).unwrap();
        assert_eq!(changed.counter, Some((1, 33)), "40 became 41, and the checksum was right; 50 stayed");

        let Some(seen) = other_eyes(TEST, "nft", &["-j", "list", "table", "ip", "test"]) else { return };
        for wanted in [
            r#"{"mangle":{"key":{"ct":{"key":"zone"}}}}"#,
            r#"{"mangle":{"key":{"payload":{"protocol":"ip","field":"ttl"}}}}"#,
            r#"["lo",7]"#,
            r#"[40,41]"#,
            r#"{"val":"127.0.0.1","counter":{"packets":4}}"#,
            r#"{"notrack":null}"#,
        ] {
            assert!(includes(&seen, wanted), "{wanted} in\n{seen}");
        }
    });
}

#[test]
fn a_transaction_is_all_or_nothing_and_names_what_was_refused() {
    sandboxed("nft::a_transaction_is_all_or_nothing_and_names_what_was_refused", || {
        let mut nft = Nft::open().unwrap();
        let table = table();
        let mut batch = Batch::new();
        batch.add_table(&table).add_chain(&table, &filter_chain()).add_rule(
            &table,
            "pre",
            &Rule::new().jump("nowhere"),
        );
        let error = nft.commit(batch).unwrap_err();
        assert_eq!((error.errno, error.operation), (Errno::ENOENT, "add rule to chain"));
        assert_eq!(error.object, "pre in table ip test");
        assert_eq!(nft.tables(Family::Ip).unwrap(), []);

        let mut batch = Batch::new();
        batch.delete_table(&table);
        assert!(nft.commit(batch).unwrap_err().is_absent());
        let mut batch = Batch::new();
        batch.remove_table(&table);
        nft.commit(batch).unwrap();
        nft.commit(Batch::new()).unwrap();
    });
}

#[test]
fn a_big_set_goes_in_one_transaction() {
    sandboxed("nft::a_big_set_goes_in_one_transaction", || {
        let mut nft = Nft::open_in(&Netns::create().unwrap()).unwrap();
        let (table, set) = (table(), Set::of("pods", &[KeyType::Ipv4Addr]));
        let pods: Vec<Element> =
            (0..5000_u32).map(|i| Element::new([std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).into()])).collect();
        let mut batch = Batch::new();
        batch.replace_table(&table, None).add_set(&table, &set).add_elements(&table, &set, &pods);
        nft.commit(batch).unwrap();
        assert_eq!(nft.elements(&table, "pods").unwrap().len(), 5000);
        assert_eq!(Nft::open().unwrap().tables(Family::Ip).unwrap(), [], "the other namespace has none of it");
    });
}

#[test]
fn rules_are_inserted_deleted_and_flushed() {
    sandboxed("nft::rules_are_inserted_deleted_and_flushed", || {
        let mut nft = Nft::open().unwrap();
        let table = table();
        let mut batch = Batch::new();
        batch
            .add_table(&table)
            .add_chain(&table, &filter_chain())
            .add_rule(&table, "pre", &Rule::new().comment("second"))
            .insert_rule(&table, "pre", &Rule::new().comment("first").counter().drop());
        nft.commit(batch).unwrap();
        let seen = nft.rules(&table).unwrap();
        let comments: Vec<_> = seen.iter().map(|rule| rule.comment.as_deref().unwrap()).collect();
        assert_eq!(comments, ["first", "second"]);
        assert_eq!(
            (seen[0].counter, &seen[0].expressions[..]),
            (Some((0, 0)), &["counter".to_owned(), "immediate".to_owned()][..])
        );
        let mut batch = Batch::new();
        batch.delete_rule(&table, "pre", seen[0].handle);
        nft.commit(batch).unwrap();
        assert_eq!(nft.rules(&table).unwrap().len(), 1);
        let mut batch = Batch::new();
        batch.flush_chain(&table, "pre").delete_chain(&table, "pre");
        nft.commit(batch).unwrap();
        assert_eq!(nft.chains(&table).unwrap(), []);
    });
}

#[test]
fn arp_and_ingress_have_tables_of_their_own() {
    sandboxed("nft::arp_and_ingress_have_tables_of_their_own", || {
        let mut nft = Nft::open().unwrap();
        let arp = Table::new(Family::Arp, "guard");
        let known = Set::of("known", &[KeyType::IfIndex, KeyType::EtherAddr, KeyType::Ipv4Addr]);
        let key = [Selector::Iif, Selector::ArpSenderMac, Selector::ArpSenderIp];
        let ingress = Table::new(Family::Netdev, "guard");
        let hook = BaseChain { device: Some("lo".to_owned()), ..BaseChain::new(ChainKind::Filter, Hook::Ingress, 0) };
        let mut batch = Batch::new();
        batch
            .add_table(&arp)
            .add_set(&arp, &known)
            .add_chain(&arp, &Chain::base("in", BaseChain::new(ChainKind::Filter, Hook::Input, 0).dropping()))
            .add_rule(&arp, "in", &Rule::new().in_set(Test::Is, &key, "known").accept())
            .add_table(&ingress)
            .add_chain(&ingress, &Chain::base("in", hook))
            .add_rule(&ingress, "in", &Rule::new().ether_source(Test::Not, mac(1)).counter());
        nft.commit(batch).unwrap();
        assert!(nft.chains(&arp).unwrap()[0].drops);
        assert_eq!(nft.rules(&ingress).unwrap().len(), 1);
    });
}
