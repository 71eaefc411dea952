use std::sync::atomic::{AtomicBool, Ordering};

use vpc_linux::{Address, ConfKey, Errno, LinkChange, NeighSpec, Netns, Rtnl, VethPeer, VethSpec};

use crate::sandbox::{cable, ip, mac, name, net, other_eyes, sandboxed};

#[test]
fn a_veth_pair_is_made_across_namespaces_in_one_go() {
    const TEST: &str = "links::a_veth_pair_is_made_across_namespaces_in_one_go";
    sandboxed(TEST, || {
        let (mut host, pod) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let spec = VethSpec {
            name: name("eni0123456789a"),
            index: None,
            mac: Some(mac(1)),
            mtu: Some(9001),
            up: true,
            alias: Some("aws-cni web default/web-0".to_owned()),
            link_local: true,
            peer: VethPeer { name: name("eth0"), mac: Some(mac(2)), mtu: Some(9001), netns: Some(&pod) },
        };
        let (index, peer) = host.add_veth(&spec).unwrap();
        let ours = host.link(index).unwrap();
        assert_eq!((ours.name.as_str(), ours.mac, ours.mtu, ours.up), ("eni0123456789a", Some(mac(1)), 9001, true));
        assert_eq!(ours.kind.as_deref(), Some("veth"));
        assert_eq!(ours.alias.as_deref(), Some("aws-cni web default/web-0"));
        assert_eq!(ours.peer_index, peer);
        let theirs = Rtnl::open_in(&pod).unwrap().link(&name("eth0")).unwrap();
        assert_eq!((Some(theirs.index), theirs.mac, theirs.mtu, theirs.up), (peer, Some(mac(2)), 9001, false));
        assert!(!ours.carrier, "the peer is down");
        assert_eq!(host.links().unwrap().iter().find(|link| link.index == index), Some(&ours));

        let spec = VethSpec { alias: Some("another".to_owned()), ..spec };
        let again = host.add_veth(&spec).unwrap_err();
        assert_eq!(host.link(index).unwrap().alias, ours.alias, "what was there is not touched");
        assert_eq!((again.errno, again.operation), (Errno::EEXIST, "create veth pair"));
        assert!(again.object.contains("eni0123456789a"));

        let Some(seen) = other_eyes(TEST, "ip", &["-j", "-d", "link", "show", "eni0123456789a"]) else { return };
        let seen = &seen[0];
        assert_eq!(seen["address"], "0a:00:00:00:00:01");
        assert_eq!(seen["mtu"], 9001);
        assert_eq!(seen["ifalias"], "aws-cni web default/web-0");
        assert_eq!(seen["linkinfo"]["info_kind"], "veth");
        // Room for one queue each way: the kernel would make room for one for each processor, and use one.
        assert_eq!((&seen["num_tx_queues"], &seen["num_rx_queues"]), (&1.into(), &1.into()));
    });
}

#[test]
fn a_link_that_is_to_have_no_ipv6_address_gets_none() {
    sandboxed("links::a_link_that_is_to_have_no_ipv6_address_gets_none", || {
        let (mut rtnl, pod) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let mut far = Rtnl::open_in(&pod).unwrap();
        for (link, alias, link_local) in [("quiet0", Some("x"), false), ("quiet1", None, false), ("usual", None, true)]
        {
            let peer = VethPeer { name: name(&format!("p-{link}")), mac: None, mtu: None, netns: Some(&pod) };
            let spec = VethSpec {
                name: name(link),
                index: None,
                mac: None,
                mtu: None,
                up: true,
                alias: alias.map(str::to_owned),
                link_local,
                peer,
            };
            let (index, peer) = rtnl.add_veth(&spec).unwrap();
            assert!(rtnl.link(index).unwrap().up, "{link}");
            far.set_link(peer.unwrap(), &LinkChange::up()).unwrap();
        }
        let with_address = || -> Vec<String> {
            let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
            text.lines().filter_map(|line| line.split_whitespace().last().map(str::to_owned)).collect()
        };
        if std::path::Path::new("/proc/sys/net/ipv6").exists() {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !with_address().contains(&"usual".to_owned()) {
                assert!(std::time::Instant::now() < end, "{:?}", with_address());
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert_eq!(with_address().iter().find(|link| link.starts_with("quiet")), None);
        // An MTU below IPv6's least: there is nothing to keep from having an address.
        let peer = VethPeer { name: name("small"), mac: None, mtu: Some(576), netns: Some(&pod) };
        let small = VethSpec {
            name: name("quiet2"),
            index: None,
            mac: None,
            mtu: Some(576),
            up: true,
            alias: Some("small".to_owned()),
            link_local: false,
            peer,
        };
        let (index, _) = rtnl.add_veth(&small).unwrap();
        assert_eq!(rtnl.link(index).unwrap().alias.as_deref(), Some("small"));
    });
}

#[test]
fn a_link_that_is_not_there_is_no_failure_to_look_for() {
    sandboxed("links::a_link_that_is_not_there_is_no_failure_to_look_for", || {
        let mut rtnl = Rtnl::open().unwrap();
        assert_eq!(rtnl.find_link(&name("eth7")).unwrap(), None);
        assert_eq!((rtnl.has_link(&name("eth7")), rtnl.has_link(&name("lo"))), (Ok(false), Ok(true)));
        assert_eq!(rtnl.find_link(4711).unwrap(), None);
        let error = rtnl.link(&name("eth7")).unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("get link eth7"), "{error}");
    });
}

#[test]
fn links_are_changed_renamed_and_moved() {
    sandboxed("links::links_are_changed_renamed_and_moved", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (index, _) = cable(&mut rtnl, "a0", &far, "b0");
        let change = LinkChange {
            up: Some(false),
            mtu: Some(1400),
            mac: Some(mac(7)),
            alias: Some("hello".to_owned()),
            group: Some(42),
            ..LinkChange::default()
        };
        rtnl.set_link(index, &change).unwrap();
        rtnl.rename_link(index, &name("eth1")).unwrap();
        let seen = rtnl.link(&name("eth1")).unwrap();
        assert_eq!((seen.index, seen.mtu, seen.mac, seen.group, seen.up), (index, 1400, Some(mac(7)), 42, false));
        assert_eq!(seen.alias.as_deref(), Some("hello"));
        rtnl.set_link(index, &LinkChange { alias: Some(String::new()), ..LinkChange::default() }).unwrap();
        assert_eq!(rtnl.link(index).unwrap().alias, None);
        rtnl.move_link(index, &far).unwrap();
        assert_eq!(rtnl.find_link(&name("eth1")).unwrap(), None);
        assert_eq!(Rtnl::open_in(&far).unwrap().link(&name("eth1")).unwrap().mac, Some(mac(7)));
    });
}

#[test]
fn ipv4_settings_of_a_link_go_by_netlink() {
    sandboxed("links::ipv4_settings_of_a_link_go_by_netlink", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        cable(&mut rtnl, "a0", &far, "b0");
        let settings = [
            (ConfKey::Forwarding, 1, "forwarding"),
            (ConfKey::RpFilter, 2, "rp_filter"),
            (ConfKey::ProxyArp, 1, "proxy_arp"),
            (ConfKey::AcceptLocal, 1, "accept_local"),
            (ConfKey::RouteLocalnet, 1, "route_localnet"),
            (ConfKey::ArpIgnore, 1, "arp_ignore"),
            (ConfKey::ArpAnnounce, 2, "arp_announce"),
            (ConfKey::SendRedirects, 0, "send_redirects"),
            (ConfKey::SrcValidMark, 1, "src_valid_mark"),
            (ConfKey::PromoteSecondaries, 1, "promote_secondaries"),
            (ConfKey::ArpNotify, 1, "arp_notify"),
            (ConfKey::ArpFilter, 1, "arp_filter"),
            (ConfKey::ProxyArpPvlan, 1, "proxy_arp_pvlan"),
            (ConfKey::LogMartians, 1, "log_martians"),
        ];
        let wanted: Vec<_> = settings.iter().map(|(key, value, _)| (*key, *value)).collect();
        rtnl.set_conf(&name("a0"), &wanted).unwrap();
        let conf = rtnl.conf(&name("a0")).unwrap();
        for (key, value, file) in settings {
            assert_eq!(conf.get(key), Some(value), "{file}");
            let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/a0/{file}")).unwrap();
            assert_eq!(text.trim(), value.to_string(), "{file} by the kernel's own name");
        }
    });
}

#[test]
fn many_links_go_as_one_group() {
    sandboxed("links::many_links_go_as_one_group", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let kept = cable(&mut rtnl, "kept", &far, "kept").0;
        let mut doomed: Vec<u32> =
            (0..100).map(|i| cable(&mut rtnl, &format!("a{i}"), &far, &format!("b{i}")).0).collect();
        doomed.push(999_999);
        rtnl.delete_links_as_group(&doomed).unwrap();
        let left: Vec<u32> = rtnl.links().unwrap().into_iter().map(|link| link.index).collect();
        assert_eq!(left, [1, kept]);
        rtnl.delete_links_as_group(&doomed).unwrap();
        rtnl.delete_links_as_group(&[]).unwrap();
        rtnl.delete_links_as_group(&[kept]).unwrap();
        assert_eq!(Rtnl::open_in(&far).unwrap().links().unwrap().len(), 1);

        // A link that can not be deleted spares the others, and does not stand in the way later.
        let spared = cable(&mut rtnl, "spared", &far, "spared").0;
        let error = rtnl.delete_links_as_group(&[1, spared]).unwrap_err();
        assert_eq!(error.errno, Errno::EOPNOTSUPP, "{error}");
        assert_eq!(rtnl.link(1).unwrap().group, 0);
        rtnl.delete_links_as_group(&[spared, 999_999]).unwrap();
        assert_eq!(rtnl.find_link(spared).unwrap(), None);
    });
}

#[test]
fn a_list_is_whole_while_links_come_and_go() {
    sandboxed("links::a_list_is_whole_while_links_come_and_go", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let mut stable: Vec<u32> =
            (0..100).map(|i| cable(&mut rtnl, &format!("a{i}"), &far, &format!("b{i}")).0).collect();
        stable.push(1);
        stable.sort_unstable();
        let home = Netns::current().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rtnl = Rtnl::open_in(&home).unwrap();
                let (mut made, mut more) = (Vec::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    made.push(cable(&mut rtnl, &format!("c{more}"), &far, &format!("d{more}")).0);
                    more += 1;
                    if made.len() == 10 {
                        rtnl.delete_links_as_group(&std::mem::take(&mut made)).unwrap();
                    }
                }
            });
            let lists: Vec<_> = (0..50).filter_map(|_| rtnl.links().ok()).collect();
            stop.store(true, Ordering::Relaxed);
            assert!(!lists.is_empty());
            for list in lists {
                let mut seen: Vec<u32> = list.iter().map(|link| link.index).filter(|i| stable.contains(i)).collect();
                seen.sort_unstable();
                assert_eq!(seen, stable);
            }
        });
    });
}

#[test]
fn addresses_come_and_go() {
    const TEST: &str = "links::addresses_come_and_go";
    sandboxed(TEST, || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (index, _) = cable(&mut rtnl, "a0", &far, "b0");
        let plain = Address::new(index, net("10.20.8.4/22"));
        let quiet = Address { no_prefix_route: true, ..Address::new(index, net("10.30.0.5/16")) };
        rtnl.add_address(&plain).unwrap();
        assert!(rtnl.add_address(&plain).unwrap_err().is_present());
        rtnl.replace_address(&plain).unwrap();
        rtnl.add_address(&quiet).unwrap();
        assert_eq!(rtnl.addresses(Some(index)).unwrap(), [plain.clone(), quiet.clone()]);
        assert_eq!(rtnl.addresses(Some(1)).unwrap(), []);
        let connected: Vec<_> = rtnl.routes(Some(vpc_model::RouteTable::MAIN)).unwrap().iter().map(|r| r.to).collect();
        assert_eq!(connected, [net("10.20.8.0/22")], "NOPREFIXROUTE makes no route");
        if let Some(seen) = other_eyes(TEST, "ip", &["-j", "-4", "addr", "show", "dev", "a0"]) {
            let infos = seen[0]["addr_info"].as_array().unwrap();
            assert_eq!((infos[0]["local"].as_str(), infos[0]["prefixlen"].as_u64()), (Some("10.20.8.4"), Some(22)));
            assert_eq!(infos[1]["noprefixroute"], true);
        }
        rtnl.delete_address(&plain).unwrap();
        assert!(rtnl.delete_address(&plain).unwrap_err().is_absent());
    });
}

#[test]
fn neighbours_are_pinned_and_forgotten() {
    const TEST: &str = "links::neighbours_are_pinned_and_forgotten";
    sandboxed(TEST, || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (index, _) = cable(&mut rtnl, "a0", &far, "b0");
        let pinned = NeighSpec::pinned(index, ip("169.254.1.1"), mac(1));
        rtnl.pin_neighbour(&NeighSpec::pinned(index, ip("169.254.1.1"), mac(9))).unwrap();
        rtnl.pin_neighbour(&pinned).unwrap();
        assert_eq!(rtnl.neighbours(false).unwrap(), std::slice::from_ref(&pinned));
        let proxied = NeighSpec::proxied(index, ip("10.20.0.1"));
        rtnl.pin_neighbour(&proxied).unwrap();
        let proxies = rtnl.neighbours(true).unwrap();
        assert_eq!(proxies.len(), 1);
        assert_eq!((proxies[0].address, proxies[0].proxy, proxies[0].link), (ip("10.20.0.1"), true, index));
        if let Some(seen) = other_eyes(TEST, "ip", &["-j", "neigh", "show", "dev", "a0"]) {
            assert_eq!((&seen[0]["lladdr"], &seen[0]["state"][0]), (&"0a:00:00:00:00:01".into(), &"PERMANENT".into()));
        }
        rtnl.delete_neighbour(&pinned).unwrap();
        assert!(rtnl.delete_neighbour(&pinned).unwrap_err().is_absent());
        assert_eq!(rtnl.neighbours(false).unwrap(), []);
    });
}

#[test]
fn a_pod_s_link_goes_only_if_it_says_that_it_is_its_owner_s() {
    sandboxed("links::a_pod_s_link_goes_only_if_it_says_that_it_is_its_owner_s", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let alias = |container: &str| {
            let pod = vpc_model::PodRef { namespace: "default".into(), name: "web-1".into() };
            let interface = "eth0".to_owned();
            let key = vpc_model::SandboxKey { network: "aws-cni".into(), container: container.into(), interface };
            vpc_hostnet::LinkAlias::of(&key, &pod)
        };
        for i in 0..4 {
            cable(&mut rtnl, &format!("a{i}"), &far, &format!("b{i}"));
        }
        let names: Vec<vpc_model::LinkName> = (0..5).map(|i| name(&format!("a{i}"))).collect();
        for (link, container) in [(0, "old"), (1, "successor"), (2, "old")] {
            let alias = Some(alias(container).to_string());
            rtnl.set_link(&names[link], &LinkChange { alias, ..LinkChange::default() }).unwrap();
        }
        // a1 is another's, a3 says nothing (the reference's plugin made it), a4 is not there.
        let old = alias("old");
        let mut host = vpc_linux::LinuxHost::open().unwrap();
        assert_eq!(host.remove_pod_links(names.iter().map(|link| (link, &old))).unwrap(), 2);
        let left: Vec<String> = rtnl.links().unwrap().into_iter().map(|link| link.name.to_string()).collect();
        assert_eq!(left, ["lo", "a1", "a3"]);
        assert_eq!(host.remove_pod_links(names.iter().map(|link| (link, &old))).unwrap(), 0);
        assert_eq!(Rtnl::open_in(&far).unwrap().links().unwrap().len(), 3, "the other ends went too");
        // Made while another prefix held: its name is not what is asked for, its alias is.
        cable(&mut rtnl, "eni0123", &far, "b9");
        let alias = Some(old.to_string());
        rtnl.set_link(&name("eni0123"), &LinkChange { alias, ..LinkChange::default() }).unwrap();
        assert_eq!(host.remove_pod_links([(&name("foo0123"), &old)]).unwrap(), 1);
        let left: Vec<String> = rtnl.links().unwrap().into_iter().map(|link| link.name.to_string()).collect();
        assert_eq!(left, ["lo", "a1", "a3"]);
    });
}
