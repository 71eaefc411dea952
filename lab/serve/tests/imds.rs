//! IMDSv2 over HTTP: sessions, refusals, hop limit, callers; and EC2 beside it on one listener.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use common::{Plain, default_world, header, imds_settings, listener, serve, url};
use lab_cloud::{ACCESS_KEY, Profile, SECRET_KEY, Setup, WorldSpec, id_for};
use lab_serve::{CallFilter, ImdsCallers, ImdsOptions, serve_imds, standalone};
use vpc_aws::ec2::shapes::{AssignPrivateIpAddresses, DescribeVpcs};
use vpc_aws::imds;

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
const PUT: &str = "PUT /latest/api/token";

async fn token(plain: &mut Plain) -> String {
    plain.ask(PUT, &[(TTL, "60")], "").await.unwrap().body
}

#[tokio::test]
async fn a_session_opens_the_tree() {
    let lab = default_world();
    let mut plain = Plain::connect(lab.imds.address()).await;
    let got = plain.ask(PUT, &[(TTL, "21600")], "").await.unwrap();
    assert_eq!((got.status, header(&got.head, TTL).as_deref()), (200, Some("21600")));
    let session = [(TOKEN, got.body.as_str())];
    for (path, status, body) in [
        ("/latest/meta-data/instance-type", 200, "m5.large"),
        ("/latest/meta-data/instance-type/", 200, "m5.large"),
        ("/2021-07-15/meta-data/placement/region", 200, "us-west-2"),
        ("/latest//meta-data/placement/", 200, "availability-zone\navailability-zone-id\nregion"),
        ("/latest/", 200, "dynamic\nmeta-data"),
        ("/latest/dynamic/", 200, "instance-identity/"),
        ("/latest/meta-data/block-device-mapping", 200, "ami\nroot"),
        ("/latest/meta-data/services/", 200, "domain\npartition"),
        ("/latest/meta-data/iam/security-credentials/", 200, "node-role"),
        ("/latest/meta-data/system", 200, "nitro"),
    ] {
        let got = plain.ask(&format!("GET {path}"), &session, "").await.unwrap();
        assert_eq!((got.status, got.body.as_str()), (status, body), "{path}");
    }
    let versions = plain.ask("GET /", &session, "").await.unwrap().body;
    assert!(versions.starts_with("1.0\n2007-01-19\n") && versions.ends_with("\n2024-04-11\nlatest"), "{versions}");
    let macs = plain.ask("GET /latest/meta-data/network/interfaces/macs/", &session, "").await.unwrap();
    assert!(macs.body.ends_with('/') && macs.body.len() == 18, "a MAC and a slash: {}", macs.body);
    assert_eq!(header(&macs.head, TTL).as_deref(), Some("21600"), "how long the session is still good");
    assert_eq!(header(&macs.head, "server").as_deref(), Some("ec2ws"));
    let missing = plain.ask("GET /latest/meta-data/nothing", &session, "").await.unwrap();
    assert!(missing.body.contains("<title>404 - Not Found</title>"), "{}", missing.body);
    let off =
        ["/latest/meta-data/tags/", "/latest/meta-data/public-ipv4", "/latest/user-data", "/2001-01-01/meta-data"];
    for path in off {
        assert_eq!(plain.ask(&format!("GET {path}"), &session, "").await.unwrap().status, 404, "{path}");
    }
    for (path, status) in [("/latest/meta-data/ipv6", 404), ("/nonsense", 404), ("/latest/api/token", 405)] {
        assert_eq!(plain.ask(&format!("GET {path}"), &session, "").await.unwrap().status, status, "{path}");
    }
    assert_eq!(plain.ask("POST /latest/meta-data/mac", &session, "").await.unwrap().status, 405);
}

#[tokio::test]
async fn without_a_session_there_is_nothing() {
    let lab = default_world();
    let mut plain = Plain::connect(lab.imds.address()).await;
    let get = "GET /latest/meta-data/mac";
    assert_eq!(plain.ask(get, &[], "").await.unwrap().status, 401);
    assert_eq!(plain.ask(get, &[(TOKEN, "made up")], "").await.unwrap().status, 401);
    for (headers, status) in [
        (vec![], 400),
        (vec![(TTL, "0")], 400),
        (vec![(TTL, "21601")], 400),
        (vec![(TTL, "soon")], 400),
        (vec![(TTL, "60"), ("X-Forwarded-For", "10.0.0.1")], 403),
    ] {
        assert_eq!(plain.ask(PUT, &headers, "").await.unwrap().status, status, "{headers:?}");
    }
    let short = plain.ask(PUT, &[(TTL, "1")], "").await.unwrap().body;
    assert_eq!(plain.ask(get, &[(TOKEN, &short)], "").await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(plain.ask(get, &[(TOKEN, &short)], "").await.unwrap().status, 401);
    let failed = CallFilter { errors_only: true, ..CallFilter::default() };
    assert_eq!(lab.cloud.calls(&failed).len(), 8);
}

#[tokio::test]
async fn what_an_instance_shows_is_its_own_setting() {
    let mut spec = WorldSpec::default_topology();
    spec.instances[0].tokens_required = false;
    spec.instances[0].metadata_tags = true;
    spec.instances[0].tags.insert("team".to_owned(), "blue".to_owned());
    spec.instances[0].public_ip = Some("198.51.100.7".parse().unwrap());
    let lab = serve(spec, Profile::instant());
    let mut plain = Plain::connect(lab.imds.address()).await;
    let get = |path: &str| format!("GET /latest/meta-data/{path}");
    for (path, body) in [
        ("tags/instance/", "Name\nteam"),
        ("tags/instance/team", "blue"),
        ("public-ipv4", "198.51.100.7"),
        ("public-hostname", "ec2-198-51-100-7.us-west-2.compute.amazonaws.com"),
    ] {
        let got = plain.ask(&get(path), &[], "").await.unwrap();
        assert_eq!((got.status, got.body.as_str()), (200, body), "{path} without a token");
        assert_eq!(header(&got.head, TTL), None);
    }
    assert_eq!(plain.ask(&get("mac"), &[(TOKEN, "made up")], "").await.unwrap().status, 401, "a bad token is bad");
}

#[tokio::test]
async fn our_client_sees_its_enis() {
    let lab = default_world();
    let eni = lab.cloud.snapshot().instances.iter().find(|i| i.name == "node-1").unwrap().enis[0].clone();
    let ec2 = common::client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY);
    ec2.call(&AssignPrivateIpAddresses::addresses(eni.clone(), 4)).await.unwrap();
    let walk = imds::Client::new(imds_settings(&url(&lab.imds)), None).walk().await.unwrap();
    assert_eq!((walk.sick.len(), walk.enis.len()), (0, 1));
    assert_eq!((&walk.enis[0].eni_id, walk.enis[0].ipv4.len()), (&eni, 5));
}

#[tokio::test]
async fn callers_are_told_apart_and_sessions_are_theirs() {
    let lab = default_world();
    // On loopback every address of 127.0.0.0/8 may call.
    let (one, two) = (tokio::net::TcpSocket::new_v4().unwrap(), tokio::net::TcpSocket::new_v4().unwrap());
    for (socket, address) in [(&one, "127.0.0.2:0"), (&two, "127.0.0.3:0")] {
        socket.bind(address.parse().unwrap()).unwrap();
    }
    let resolver = Arc::new(|address: std::net::IpAddr| match address.to_string().as_str() {
        "127.0.0.2" => Some(id_for("node-2")),
        "127.0.0.3" => Some(id_for("node-3")),
        _ => None,
    });
    let options = ImdsOptions { callers: ImdsCallers::Resolver(resolver), routers_between: 0 };
    let server = serve_imds(lab.cloud.clone(), listener(), options).unwrap();
    let mut one = Plain(one.connect(server.address()).await.unwrap());
    let mut two = Plain(two.connect(server.address()).await.unwrap());
    let session = token(&mut one).await;
    let get = "GET /latest/meta-data/placement/availability-zone";
    assert_eq!(one.ask(get, &[(TOKEN, &session)], "").await.unwrap().body, "us-west-2b");
    assert_eq!(two.ask(get, &[(TOKEN, &session)], "").await.unwrap().status, 401, "another's session");
    let session = token(&mut two).await;
    assert_eq!(two.ask(get, &[(TOKEN, &session)], "").await.unwrap().body, "us-west-2c");
    let mut nobody = Plain::connect(server.address()).await;
    assert_eq!(nobody.ask(PUT, &[(TTL, "60")], "").await.unwrap().status, 403);
}

/// A client that sees only segments with at least this TTL: as if it stood so many hops further away.
async fn far_client(address: SocketAddr, least_ttl: i32) -> Plain {
    let plain = Plain::connect(address).await;
    set_least_ttl(&plain, least_ttl);
    plain
}

#[allow(unsafe_code, reason = "no crate here knows IP_MINTTL")]
fn set_least_ttl(plain: &Plain, ttl: i32) {
    let size = u32::try_from(size_of::<i32>()).unwrap();
    // SAFETY: the descriptor is open, and value and size describe an `i32` that outlives the call.
    let result = unsafe {
        libc::setsockopt(plain.0.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MINTTL, (&raw const ttl).cast(), size)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[tokio::test]
async fn a_token_goes_as_far_as_the_hop_limit_and_no_further() {
    for (hop_limit, routers, least_ttl, arrives) in
        [(1, 0, 1, true), (1, 0, 2, false), (2, 0, 2, true), (2, 0, 3, false), (2, 1, 3, true)]
    {
        let mut spec = WorldSpec::default_topology();
        spec.instances[0].hop_limit = hop_limit;
        let lab = serve(spec, Profile::instant());
        let callers = ImdsCallers::Fixed(id_for("node-1"));
        let server =
            serve_imds(lab.cloud.clone(), listener(), ImdsOptions { callers, routers_between: routers }).unwrap();
        let mut far = far_client(server.address(), least_ttl).await;
        // One second is enough for several retransmissions: none of them may come through either.
        let got = far.ask(PUT, &[(TTL, "60")], "").await;
        assert_eq!(got.is_some(), arrives, "hop limit {hop_limit}, {routers} routers, TTL of at least {least_ttl}");
    }
}

#[tokio::test]
async fn everything_but_the_token_goes_any_distance() {
    let mut spec = WorldSpec::default_topology();
    spec.instances[0].hop_limit = 1;
    let lab = serve(spec, Profile::instant());
    let mut plain = Plain::connect(lab.imds.address()).await;
    let session = token(&mut plain).await;
    set_least_ttl(&plain, 60);
    let got = plain.ask("GET /latest/meta-data/instance-id", &[(TOKEN, &session)], "").await;
    assert_eq!(got.expect("the usual TTL is back").status, 200);
}

#[tokio::test]
async fn ec2_and_imds_share_one_listener() {
    let spec = WorldSpec::default_topology;
    let (cloud, server) = standalone(listener(), spec(), Setup::default(), Some("node-3")).unwrap();
    let own = imds::Client::new(imds_settings(&url(&server)), None).node().await.unwrap();
    assert_eq!(own.instance_id, id_for("node-3"));
    let ec2 = common::client(&url(&server), ACCESS_KEY, SECRET_KEY);
    assert_eq!(ec2.call(&DescribeVpcs::default()).await.unwrap().vpcs.len(), 1);
    assert!(cloud.calls(&CallFilter::default()).len() > 10);
    let error = standalone(listener(), spec(), Setup::default(), Some("node-9")).unwrap_err().to_string();
    assert!(error.contains("node-9") && error.contains("node-1, node-2, node-3"), "{error}");
}
