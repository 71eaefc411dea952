//! The control: what the kernel and a process cost on this machine, whatever we do with them.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vpc_linux::{Netns, Rtnl, VethPeer, VethSpec};

use crate::runtime::{together, until_gone};

/// `rounds` times: `at_once` times at the same moment an empty process and a veth pair into a fresh namespace; then another empty
/// process, and the namespace goes with its link.
pub(crate) fn pairs(at_once: usize, rounds: usize) -> Result<()> {
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let spaces = (0..at_once).map(|n| Ok((format!("bare{n}"), Netns::create()?))).collect::<Result<Vec<_>>>()?;
        let pairs = together(spaces, |(name, netns)| add(name, netns))?;
        added.extend(pairs.iter().map(|(took, ..)| took * 1e3));
        let gone = together(pairs, |(_, name, netns)| drop_namespace(&name, netns))?;
        deleted.extend(gone.iter().map(|took| took * 1e3));
    }
    println!("{}", json!({ "add_ms": added, "del_gone_ms": deleted }));
    Ok(())
}

fn add(name: String, netns: Netns) -> Result<(f64, String, Netns)> {
    let begin = Instant::now();
    nothing()?;
    let peer = VethPeer { name: "eth0".parse()?, mac: None, mtu: None, netns: Some(&netns) };
    Rtnl::open()?.add_veth(&VethSpec {
        name: name.parse()?,
        index: None,
        mac: None,
        mtu: None,
        up: true,
        alias: None,
        link_local: true,
        peer,
    })?;
    Ok((begin.elapsed().as_secs_f64(), name, netns))
}

fn drop_namespace(name: &str, netns: Netns) -> Result<f64> {
    let begin = Instant::now();
    nothing()?;
    drop(netns);
    until_gone(name)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn nothing() -> Result<()> {
    let status = Command::new("/proc/self/exe").arg("nothing").status().context("cannot run an empty process")?;
    ensure!(status.success(), "an empty process failed");
    Ok(())
}
