//! Security groups and source/destination check, packet by packet: who sent what, as whom, to whom, and what became of it. The fabric is
//! told by plans; every packet is a real one, and a drop is the one that was counted for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::nobody;
use common::sandbox::sandboxed;
use common::vpc::Outcome::{EgressDenied, IngressDenied, NoRoute, Passes, Spoofed};
use common::vpc::Says::{Ack, Echo, EchoReply, Exceeded, Protocol, Syn, SynAck, Udp, Unreachable};
use common::vpc::{Frame, HOST, Host, Says, Vpc, group, ip, rule};
use vpc_linux::Netns;

const ALL: &[(&str, &str)] = &[("all", "0.0.0.0/0")];

/// Host a in `web`, b in `clients` with more addresses, c in `strict`, d in both, e in none, f in the group of AWS's default rules.
fn crowd() -> (Vpc, [Host; 6]) {
    let mut vpc = Vpc::build();
    vpc.group("web", &[("tcp 80", "10.20.0.0/16"), ("tcp 8000-8080", "clients"), ("icmp 8", "clients")], ALL);
    vpc.group("clients", &[], ALL);
    let strict_in = [("udp 53-60", "clients"), ("tcp", "10.20.8.32/28"), ("proto 47", "0.0.0.0/0")];
    vpc.group("strict", &strict_in, &[("tcp 443", "10.20.8.0/24"), ("udp", "clients"), ("icmp", "web")]);
    vpc.group("own", &[("all", "own")], ALL);
    let hosts = [
        vpc.host("private-a", "10.20.8.10", &["web"]),
        vpc.host("private-a", "10.20.8.20", &["clients"]).with_addresses(&vpc, &["10.20.8.21"], &["10.20.8.32"]),
        vpc.host("private-b", "10.20.16.10", &["strict"]),
        vpc.host("private-b", "10.20.16.20", &["web", "strict"]),
        vpc.host("private-b", "10.20.16.30", &[]),
        vpc.host("private-a", "10.20.8.70", &["own"]),
    ];
    (vpc, hosts)
}

#[test]
fn a_packet_passes_exactly_if_both_sides_let_it() {
    sandboxed("a_packet_passes_exactly_if_both_sides_let_it", || {
        let (vpc, [a, b, c, d, e, f]) = crowd();
        let f2 = vpc.host("private-b", "10.20.16.40", &["own"]);
        let mut port = 20_000;
        // From, as whom, to which host, at which address, what; each is the first packet of a connection.
        type New = fn(u16) -> Says;
        let rows: &[(&Host, &str, &Host, &str, New, common::vpc::Outcome)] = &[
            // By port and by network.
            (&b, "10.20.8.20", &a, "10.20.8.10", |p| Syn(p, 80), Passes),
            (&b, "10.20.8.20", &a, "10.20.8.10", |p| Syn(p, 81), IngressDenied),
            (&b, "10.20.8.20", &a, "10.20.8.10", |p| Udp(p, 80), IngressDenied),
            (&f, "10.20.8.70", &a, "10.20.8.10", |p| Syn(p, 80), Passes),
            // The ends of a range, and one beyond each; the group with its secondary address and its prefix.
            (&b, "10.20.8.20", &a, "10.20.8.10", |p| Syn(p, 7999), IngressDenied),
            (&b, "10.20.8.20", &a, "10.20.8.10", |p| Syn(p, 8000), Passes),
            (&b, "10.20.8.21", &a, "10.20.8.10", |p| Syn(p, 8080), Passes),
            (&b, "10.20.8.32", &a, "10.20.8.10", |p| Syn(p, 8080), Passes),
            (&b, "10.20.8.47", &a, "10.20.8.10", |p| Syn(p, 8001), Passes),
            (&b, "10.20.8.47", &a, "10.20.8.10", |p| Syn(p, 8081), IngressDenied),
            (&f, "10.20.8.70", &a, "10.20.8.10", |p| Syn(p, 8000), IngressDenied),
            // ICMP by type.
            (&b, "10.20.8.20", &a, "10.20.8.10", Echo, Passes),
            (&f, "10.20.8.70", &a, "10.20.8.10", Echo, IngressDenied),
            (&b, "10.20.8.20", &a, "10.20.8.10", EchoReply, IngressDenied),
            // UDP ranges; a network that is a part of the sender's addresses; other protocols.
            (&b, "10.20.8.20", &c, "10.20.16.10", |p| Udp(p, 53), Passes),
            (&b, "10.20.8.33", &c, "10.20.16.10", |p| Udp(p, 60), Passes),
            (&b, "10.20.8.20", &c, "10.20.16.10", |p| Udp(p, 61), IngressDenied),
            (&b, "10.20.8.33", &c, "10.20.16.10", |p| Syn(p, 9), Passes),
            (&b, "10.20.8.20", &c, "10.20.16.10", |p| Syn(p, 9), IngressDenied),
            (&f, "10.20.8.70", &c, "10.20.16.10", |_| Protocol(47), Passes),
            (&f, "10.20.8.70", &c, "10.20.16.10", |_| Protocol(50), IngressDenied),
            // What goes out is asked first, at the sender.
            (&c, "10.20.16.10", &a, "10.20.8.10", |p| Syn(p, 443), IngressDenied),
            (&c, "10.20.16.10", &a, "10.20.8.10", |p| Syn(p, 80), EgressDenied),
            (&c, "10.20.16.10", &b, "10.20.8.20", |p| Udp(p, 7), IngressDenied),
            (&c, "10.20.16.10", &a, "10.20.8.10", |p| Udp(p, 7), EgressDenied),
            (&c, "10.20.16.10", &d, "10.20.16.20", Echo, IngressDenied),
            (&c, "10.20.16.10", &b, "10.20.8.20", Echo, EgressDenied),
            // Two groups let through what either does.
            (&b, "10.20.8.20", &d, "10.20.16.20", |p| Syn(p, 80), Passes),
            (&b, "10.20.8.20", &d, "10.20.16.20", |p| Udp(p, 54), Passes),
            (&d, "10.20.16.20", &a, "10.20.8.10", |p| Syn(p, 80), Passes),
            // No group lets nothing through.
            (&e, "10.20.16.30", &a, "10.20.8.10", |p| Syn(p, 80), EgressDenied),
            (&b, "10.20.8.20", &e, "10.20.16.30", |p| Syn(p, 80), IngressDenied),
            // AWS's default group: its members among themselves.
            (&f, "10.20.8.70", &f2, "10.20.16.40", |p| Udp(p, 1), Passes),
            (&f2, "10.20.16.40", &f, "10.20.8.70", |_| Protocol(50), Passes),
            (&b, "10.20.8.20", &f, "10.20.8.70", |p| Syn(p, 80), IngressDenied),
            // Not one's own: another's, nobody's, the world's, another host's.
            (&b, "10.20.8.70", &a, "10.20.8.10", |p| Syn(p, 80), Spoofed),
            (&b, "10.20.8.22", &a, "10.20.8.10", |p| Syn(p, 80), Spoofed),
            (&b, "10.20.8.48", &a, "10.20.8.10", |p| Syn(p, 80), Spoofed),
            (&f, "10.20.8.20", &c, "10.20.16.10", |p| Udp(p, 53), Spoofed),
            (&b, "52.78.83.169", &a, "10.20.8.10", |p| Syn(p, 80), Spoofed),
            // An address of the VPC that nobody has.
            (&b, "10.20.8.20", &a, "10.20.8.11", |p| Syn(p, 80), NoRoute),
        ];
        for (from, source, to, destination, says, wanted) in rows {
            port += 1;
            let frame = Frame::new(source, destination, says(port));
            assert_eq!(vpc.outcome(from, frame, to), *wanted, "{frame:?}");
        }
        // Each drop is counted at the port that it happened at.
        let status = vpc.status();
        let port = |host: &Host| status.ports.iter().find(|port| port.eni == host.eni.id).unwrap();
        assert_eq!((port(&c).egress_denied, port(&e).egress_denied, port(&b).egress_denied), (3, 1, 0));
        assert_eq!((port(&b).spoofed, port(&f).spoofed, port(&a).spoofed), (4, 1, 0));
        assert_eq!((port(&c).ingress_denied, port(&e).ingress_denied), (3, 1));
        let sum = |count: fn(&vpc_lab::fabric::PortStatus) -> u64| status.ports.iter().map(count).sum::<u64>();
        assert_eq!(sum(|port| port.ingress_denied), status.ingress_denied);
        assert_eq!((sum(|port| port.egress_denied), sum(|port| port.spoofed)), (status.egress_denied, status.spoofed));
    });
}

#[test]
fn a_foreign_mac_is_spoofed_also_where_the_check_is_off() {
    sandboxed("a_foreign_mac_is_spoofed_also_where_the_check_is_off", || {
        let (vpc, [a, mut b, ..]) = crowd();
        let truth = Frame::new("10.20.8.20", "10.20.8.10", Syn(1, 80));
        let lie = Frame { mac: Some(a.eni.mac), ..truth };
        assert_eq!(vpc.outcome(&b, lie, &a), Spoofed);
        assert_eq!(vpc.outcome(&b, truth, &a), Passes);
        b.change(&vpc, |eni| eni.source_dest_check = false);
        assert_eq!(vpc.outcome(&b, lie, &a), Spoofed);
        assert_eq!(vpc.outcome(&b, Frame::new("10.20.9.9", "10.20.8.10", Syn(2, 80)), &a), Passes);
    });
}

#[test]
fn answers_pass_by_themselves_at_the_eni_that_saw_the_question() {
    sandboxed("answers_pass_by_themselves_at_the_eni_that_saw_the_question", || {
        let (vpc, [a, b, c, ..]) = crowd();
        let ask = |says| Frame::new("10.20.8.20", "10.20.16.10", says);
        let answer = |says| Frame::new("10.20.16.10", "10.20.8.20", says);
        // b lets nothing in and c nothing out that is not an answer.
        assert_eq!(vpc.outcome(&c, answer(SynAck(9, 999)), &b), EgressDenied);
        assert_eq!(vpc.outcome(&c, answer(Udp(53, 777)), &b), IngressDenied);
        assert_eq!(vpc.outcome(&b, ask(Udp(700, 53)), &c), Passes);
        assert_eq!(vpc.outcome(&c, answer(Udp(53, 700)), &b), Passes);
        // The other port, and the other host, are not the answer.
        assert_eq!(vpc.outcome(&c, answer(Udp(54, 700)), &b), IngressDenied);
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "10.20.8.20", Udp(53, 700)), &b), IngressDenied);
        // TCP, by a rule for a part of b's addresses.
        let from_prefix = Frame::new("10.20.8.34", "10.20.16.10", Syn(999, 9));
        assert_eq!(vpc.outcome(&b, from_prefix, &c), Passes);
        assert_eq!(vpc.outcome(&c, Frame::new("10.20.16.10", "10.20.8.34", SynAck(9, 999)), &b), Passes);
        assert_eq!(vpc.outcome(&b, Frame { says: Ack(999, 9), ..from_prefix }, &c), Passes);
        // ICMP: an answer to an echo, by its number.
        let echo = Frame::new("10.20.8.20", "10.20.8.10", Echo(5));
        assert_eq!(vpc.outcome(&b, echo, &a), Passes);
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "10.20.8.20", EchoReply(6)), &b), IngressDenied);
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "10.20.8.20", EchoReply(5)), &b), Passes);
    });
}

#[test]
fn every_eni_tracks_by_itself() {
    sandboxed("every_eni_tracks_by_itself", || {
        let (mut vpc, _) = crowd();
        vpc.group("out", &[], ALL);
        let x = vpc.host("private-a", "10.20.9.1", &["out"]);
        let y = vpc.host("private-b", "10.20.17.1", &["out"]);
        let there = Frame::new("10.20.9.1", "10.20.17.1", Udp(5000, 6000));
        let back = Frame::new("10.20.17.1", "10.20.9.1", Udp(6000, 5000));
        // y does not let it in. Yet x has sent it: what y sends now is an answer for x, and then x's is one for y.
        assert_eq!(vpc.outcome(&x, there, &y), IngressDenied);
        assert_eq!(vpc.outcome(&y, back, &x), Passes);
        assert_eq!(vpc.outcome(&x, there, &y), Passes);
        let other = Frame::new("10.20.9.1", "10.20.17.1", Udp(5001, 6000));
        assert_eq!(vpc.outcome(&x, other, &y), IngressDenied);
    });
}

#[test]
fn an_error_about_a_connection_passes_and_one_about_nothing_does_not() {
    sandboxed("an_error_about_a_connection_passes_and_one_about_nothing_does_not", || {
        let (vpc, [_, b, c, ..]) = crowd();
        let (of_b, of_c) = (ip("10.20.8.20"), ip("10.20.16.10"));
        let error = |says| Frame::new("10.20.16.10", "10.20.8.20", says);
        assert_eq!(vpc.outcome(&c, error(Unreachable(of_b, of_c, 800, 53)), &b), EgressDenied);
        assert_eq!(vpc.outcome(&b, Frame::new("10.20.8.20", "10.20.16.10", Udp(800, 53)), &c), Passes);
        assert_eq!(vpc.outcome(&c, error(Unreachable(of_b, of_c, 800, 53)), &b), Passes);
        assert_eq!(vpc.outcome(&c, error(Unreachable(of_b, of_c, 801, 53)), &b), EgressDenied);
        // Also from a third: a router on the way. It must be able to send it, of course.
        let router = vpc.host("private-a", "10.20.8.60", &["own"]);
        let from_router = |says| Frame::new("10.20.8.60", "10.20.8.20", says);
        assert_eq!(vpc.outcome(&b, Frame::new("10.20.8.33", "10.20.16.10", Syn(900, 9)), &c), Passes);
        let about =
            |port| Frame { destination: ip("10.20.8.33"), ..from_router(Exceeded(ip("10.20.8.33"), of_c, port, 9)) };
        assert_eq!(vpc.outcome(&router, about(901), &b), IngressDenied);
        assert_eq!(vpc.outcome(&router, about(900), &b), Passes);
    });
}

#[test]
fn an_answer_by_another_eni_is_asked_there() {
    sandboxed("an_answer_by_another_eni_is_asked_there", || {
        let (mut vpc, [_, b, ..]) = crowd();
        vpc.group("server", &[("tcp 80", "clients")], ALL);
        vpc.group("quiet", &[], &[("udp", "0.0.0.0/0")]);
        // Two ENIs of one node.
        let first = vpc.host("private-b", "10.20.18.1", &["server"]);
        let mut second = vpc.host("private-b", "10.20.18.2", &["server"]);
        let ask = |port| Frame::new("10.20.8.20", "10.20.18.1", Syn(port, 80));
        let answer = |port| Frame::new("10.20.18.1", "10.20.8.20", SynAck(80, port));
        assert_eq!(vpc.outcome(&b, ask(1), &first), Passes);
        assert_eq!(vpc.outcome(&second, answer(1), &b), Spoofed);
        // Without the check the second ENI asks its own rules; b has the connection and lets the answer in.
        second.change(&vpc, |eni| eni.source_dest_check = false);
        assert_eq!(vpc.outcome(&second, answer(1), &b), Passes);
        assert_eq!(vpc.outcome(&second, answer(2), &b), IngressDenied);
        second.change(&vpc, |eni| eni.groups = vec![group("quiet")]);
        assert_eq!(vpc.outcome(&b, ask(3), &first), Passes);
        assert_eq!(vpc.outcome(&second, answer(3), &b), EgressDenied);
        assert_eq!(vpc.outcome(&first, answer(3), &b), Passes);
    });
}

/// An open connection, both ends real sockets.
struct Talk(TcpStream, TcpStream);

impl Talk {
    fn open(from: &Host, to: &Host, port: u16) -> Self {
        Self::between(from, &to.network, to.eni.addresses.primary, port)
    }

    fn between(from: &Host, network: &Netns, address: Ipv4Addr, port: u16) -> Self {
        let address = SocketAddr::from((address, port));
        let listener = network.enter(|| TcpListener::bind(address)).unwrap().unwrap();
        let patience = Duration::from_secs(10);
        let near = from.network.enter(|| TcpStream::connect_timeout(&address, patience)).unwrap().unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        Self(near, far)
    }

    /// Seen from the other end.
    fn swapped(self) -> Self {
        Self(self.1, self.0)
    }

    /// A byte each way.
    #[track_caller]
    fn goes_on(&mut self) {
        for turn in 0..2 {
            let (from, to) = if turn == 0 { (&mut self.0, &mut self.1) } else { (&mut self.1, &mut self.0) };
            from.write_all(b"x").unwrap();
            to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            to.read_exact(&mut [0]).unwrap();
        }
    }

    /// What is sent is dropped, and counted.
    #[track_caller]
    fn is_cut(&mut self, vpc: &Vpc, counted: fn(&vpc_lab::fabric::FabricStatus) -> u64) {
        let before = counted(&vpc.status());
        self.0.write_all(b"x").unwrap();
        common::ec2::wait_until(|| counted(&vpc.status()), |now| *now > before);
        self.1.set_nonblocking(true).unwrap();
        assert!(self.1.read(&mut [0]).is_err(), "nothing came");
    }
}

#[test]
fn a_tracked_connection_outlives_its_rule_and_an_untracked_one_does_not() {
    sandboxed("a_tracked_connection_outlives_its_rule_and_an_untracked_one_does_not", || {
        let mut vpc = Vpc::build();
        let narrow = ("tcp 443", "10.20.0.0/16");
        let open = ("tcp 80", "0.0.0.0/0");
        vpc.group("server", &[narrow, open], ALL);
        vpc.group("client", &[], ALL);
        let server = vpc.host("private-a", "10.20.8.10", &["server"]).awake(&vpc);
        let client = vpc.host("private-b", "10.20.16.10", &["client"]).awake(&vpc);
        let (mut tracked, mut untracked) = (Talk::open(&client, &server, 443), Talk::open(&client, &server, 80));
        let mut spared = Talk::open(&client, &server, 80);
        tracked.goes_on();
        untracked.goes_on();
        // A rule for everybody that goes takes its connections along; those of the narrow one stay, but no new ones come.
        vpc.group("server", &[], ALL);
        untracked.is_cut(&vpc, |status| status.ingress_denied);
        tracked.goes_on();
        let (new, old) =
            (Frame::new("10.20.16.10", "10.20.8.10", Syn(7, 443)), Frame::new("10.20.16.10", "10.20.8.10", Syn(7, 80)));
        assert_eq!(
            (vpc.outcome(&client, new, &server), vpc.outcome(&client, old, &server)),
            (IngressDenied, IngressDenied)
        );
        // With a narrower rule in its place, it goes on, and is tracked from then on.
        vpc.group("server", &[("tcp 80", "10.20.16.0/24")], ALL);
        spared.goes_on();
        vpc.group("server", &[], &[]);
        spared.goes_on();
        tracked.goes_on();
    });
}

#[test]
fn answers_of_an_untracked_connection_need_their_own_rule() {
    sandboxed("answers_of_an_untracked_connection_need_their_own_rule", || {
        let (mut vpc, [_, b, ..]) = crowd();
        vpc.group("open", &[("tcp", "0.0.0.0/0"), ("udp 53", "0.0.0.0/0"), ("icmp", "0.0.0.0/0")], ALL);
        let server = vpc.host("private-b", "10.20.18.1", &["open"]);
        let ask = |says| Frame::new("10.20.8.20", "10.20.18.1", says);
        let answer = |says| Frame::new("10.20.18.1", "10.20.8.20", says);
        for says in [Syn(1, 80), Udp(1, 53), Echo(1)] {
            assert_eq!(vpc.outcome(&b, ask(says), &server), Passes, "{says:?}");
        }
        vpc.group("open", &[("tcp", "0.0.0.0/0"), ("udp 53", "0.0.0.0/0"), ("icmp", "0.0.0.0/0")], &[]);
        assert_eq!(vpc.outcome(&server, answer(SynAck(80, 1)), &b), EgressDenied);
        assert_eq!(vpc.outcome(&server, answer(Udp(53, 1)), &b), EgressDenied);
        // ICMP is always tracked; and with a narrow way out, the others are too.
        assert_eq!(vpc.outcome(&server, answer(EchoReply(1)), &b), Passes);
        for says in [Syn(2, 80), Udp(2, 53)] {
            assert_eq!(vpc.outcome(&b, ask(says), &server), Passes, "{says:?}");
        }
        assert_eq!(vpc.outcome(&server, answer(SynAck(80, 2)), &b), Passes);
        assert_eq!(vpc.outcome(&server, answer(Udp(53, 2)), &b), Passes);
    });
}

#[test]
fn through_a_nat_gateway_everything_is_tracked() {
    sandboxed("through_a_nat_gateway_everything_is_tracked", || {
        let mut vpc = Vpc::build();
        vpc.group("open", ALL, ALL);
        let a = vpc.host("private-a", "10.20.8.10", &["open"]).awake(&vpc);
        let p = vpc.host("public", "10.20.0.10", &["open"]).awake(&vpc);
        vpc.fabric.set_public(ip("10.20.0.10"), Some(ip("203.0.113.10"))).unwrap();
        let world = vpc.fabric.world().clone();
        let (mut by_nat, mut direct) = (Talk::between(&a, &world, HOST, 9), Talk::between(&p, &world, HOST, 9));
        by_nat.goes_on();
        direct.goes_on();
        vpc.group("open", &[], ALL);
        by_nat.goes_on();
        direct.swapped().is_cut(&vpc, |status| status.ingress_denied);
    });
}

#[test]
fn groups_addresses_and_members_change_while_the_eni_is_there() {
    sandboxed("groups_addresses_and_members_change_while_the_eni_is_there", || {
        let (mut vpc, [mut a, mut b, _, _, mut e, _]) = crowd();
        let to_a = |source: &str, port| Frame::new(source, "10.20.8.10", Syn(port, 8000));
        // A host becomes a member, and so do its addresses; one that leaves is none any more.
        assert_eq!(vpc.outcome(&e, to_a("10.20.16.30", 1), &a), EgressDenied);
        e.change(&vpc, |eni| eni.groups = vec![group("clients")]);
        assert_eq!(vpc.outcome(&e, to_a("10.20.16.30", 2), &a), Passes);
        b.change(&vpc, |eni| eni.groups = vec![group("own")]);
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.20", 3), &a), IngressDenied);
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.33", 3), &a), IngressDenied);
        // An address moves from one member to another, whichever is heard of first.
        b.change(&vpc, |eni| eni.groups = vec![group("clients")]);
        e.change(&vpc, |eni| eni.addresses.secondary.insert(ip("10.20.8.21")).then_some(()).unwrap());
        b.change(&vpc, |eni| eni.addresses.secondary.remove(&ip("10.20.8.21")).then_some(()).unwrap());
        assert_eq!(vpc.outcome(&e, to_a("10.20.8.21", 4), &a), Passes);
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.21", 4), &a), Spoofed);
        // A prefix goes.
        b.change(&vpc, |eni| eni.addresses.prefixes.clear());
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.33", 5), &a), Spoofed);
        // A group is made, referred to, filled, and goes.
        vpc.group("new", &[], ALL);
        vpc.group("web", &[("tcp 8000", "new")], ALL);
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.20", 6), &a), IngressDenied);
        b.change(&vpc, |eni| eni.groups = vec![group("new")]);
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.20", 7), &a), Passes);
        b.change(&vpc, |eni| eni.groups = vec![group("clients")]);
        vpc.plan.groups.remove(&group("new"));
        vpc.plan.groups.get_mut(&group("web")).unwrap().ingress = vec![rule("tcp 8001", "0.0.0.0/0")];
        vpc.follow();
        assert_eq!(vpc.outcome(&b, to_a("10.20.8.20", 8), &a), IngressDenied);
        // The receiver's groups change.
        a.change(&vpc, |eni| eni.groups = vec![group("strict"), group("own")]);
        assert_eq!(vpc.outcome(&b, Frame::new("10.20.8.20", "10.20.8.10", Udp(8, 53)), &a), Passes);
    });
}

#[test]
fn link_local_services_are_not_subject_to_groups() {
    sandboxed("link_local_services_are_not_subject_to_groups", || {
        let vpc = Vpc::build();
        let alone = vpc.host("private-a", "10.20.8.10", &[]);
        for service in ["169.254.169.254", "169.254.169.200", "169.254.169.253"] {
            alone.forget();
            alone.send(Frame::new("10.20.8.10", service, Echo(9)));
            alone.expect(|p| p.is_between(ip(service), ip("10.20.8.10")));
        }
        assert_eq!((vpc.status().egress_denied, vpc.status().ingress_denied), (0, 0));
    });
}

#[test]
fn what_is_detached_ends_and_what_comes_back_knows_nothing() {
    sandboxed("what_is_detached_ends_and_what_comes_back_knows_nothing", || {
        let (vpc, [a, b, c, ..]) = crowd();
        assert_eq!(vpc.outcome(&b, Frame::new("10.20.8.20", "10.20.16.10", Udp(1, 53)), &c), Passes);
        let answer = Frame::new("10.20.16.10", "10.20.8.20", Udp(53, 1));
        assert_eq!(vpc.outcome(&c, answer, &b), Passes);
        vpc.fabric.detach(&b.eni.id).unwrap();
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "10.20.8.20", Udp(1, 1)), &b), NoRoute);
        assert!(vpc.status().ports.iter().all(|port| port.eni != b.eni.id));
        drop(b);
        // The same addresses at another ENI of the same groups: c remembers the connection, the ENI does not.
        let again = vpc.host("private-a", "10.20.8.20", &["clients"]);
        assert_eq!(vpc.outcome(&c, answer, &again), IngressDenied);
        assert_eq!(vpc.outcome(&again, Frame::new("10.20.8.20", "10.20.16.10", Udp(1, 53)), &c), Passes);
        assert_eq!(vpc.outcome(&c, answer, &again), Passes);
    });
}

#[test]
fn every_test_here_also_passes_for_nobody() {
    nobody::run_all_as_nobody("every_test_here_also_passes_for_nobody");
}
