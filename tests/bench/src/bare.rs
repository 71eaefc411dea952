//! The control: an empty process, and the same links, addresses, routes and rules made by a process that is running already.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::Result;
use vpc_hostnet::{HostLayout, PodWiring, unwiring, wiring};
use vpc_linux::{Netns, Rtnl, unwire, wire_pod};
use vpc_model::{LinkName, Mac, RouteTable};

use crate::run::{self, Took, own_cpu};

/// What DEL has to take back.
pub(crate) struct Wired {
    pub(crate) link: LinkName,
    address: Ipv4Addr,
}

const TABLE: RouteTable = RouteTable(2);

pub(crate) fn add(nothing: &Path, netns: &str) -> Result<(Took, Wired)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 16384;
    let [a, b, c, d] = number.to_be_bytes();
    let wired = Wired {
        link: format!("bare{number:08x}").parse()?,
        address: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 20, 128, 0)) + number),
    };
    let steps = wiring(&PodWiring {
        address: wired.address,
        table: TABLE,
        host_link: wired.link.clone(),
        pod_link: "eth0".parse()?,
        host_mac: Mac([2, 0, a, b, c, d]),
        pod_mac: Mac([2, 1, a, b, c, d]),
        mtu: 9001,
        alias: String::new(),
        layout: HostLayout::Classic,
    });
    let (empty, _) = run::run(&mut Command::new(nothing), &[])?;
    let (begin, cpu) = (Instant::now(), own_cpu());
    wire_pod(&mut Rtnl::open()?, &Netns::open(netns)?, &steps)?;
    Ok((empty.and(begin.elapsed(), own_cpu() - cpu), wired))
}

pub(crate) fn del(nothing: &Path, wired: &Wired) -> Result<Took> {
    let (empty, _) = run::run(&mut Command::new(nothing), &[])?;
    let (begin, cpu) = (Instant::now(), own_cpu());
    unwire(&mut Rtnl::open()?, &unwiring(HostLayout::Classic, wired.address, TABLE))?;
    Ok(empty.and(begin.elapsed(), own_cpu() - cpu))
}
