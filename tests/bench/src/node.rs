//! Where it happens: namespaces of users, mounts and network, and in them a host's network for each contestant.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use vpc_linux::{Address, LinkChange, Netns, RouteSpec, Rtnl, VethPeer, VethSpec};
use vpc_model::RouteTable;

/// Leaves everybody else's namespaces for ever. To be called before there is a second thread.
pub(crate) fn leave() -> Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if !user.is_root() {
        spaces |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(spaces).context("namespaces are not allowed here")?;
    if !user.is_root() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let run = fs::canonicalize("/var/run").context("/var/run")?;
    mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}

/// A host's network as a daemon has set it up: two ENIs, the second with a table of its own.
pub(crate) fn host() -> Result<Netns> {
    let netns = Netns::create()?;
    netns.enter(|| -> Result<()> {
        let mut rtnl = Rtnl::open()?;
        rtnl.set_link(&"lo".parse()?, &LinkChange::up())?;
        for device in 0..2_u8 {
            let peer = VethPeer { name: format!("wire{device}").parse()?, mac: None, mtu: Some(9001), netns: None };
            let spec = VethSpec {
                name: format!("eth{device}").parse()?,
                index: None,
                mac: None,
                mtu: Some(9001),
                up: true,
                alias: None,
                link_local: true,
                peer,
            };
            let (index, _) = rtnl.add_veth(&spec)?;
            rtnl.set_link(&spec.peer.name, &LinkChange::up())?;
            rtnl.add_address(&Address::new(index, format!("10.20.{device}.10/24").parse()?))?;
        }
        let eth1 = rtnl.link(&"eth1".parse()?)?.index;
        let gateway = RouteSpec::on_link(RouteTable(2), "10.20.1.1/32".parse()?, eth1);
        Ok(rtnl.run(vec![vpc_linux::rtnl::route::add(&gateway)])?)
    })??;
    Ok(netns)
}

/// The stub daemon; it ends with this.
pub(crate) struct Stub(Child);

impl Stub {
    /// Starts it, and waits until it listens.
    pub(crate) fn start() -> Result<Self> {
        let own = std::env::current_exe()?;
        let mut child = Command::new(own).arg("stub").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let told = child.stdout.take().context("the stub has no output")?;
        let stub = Self(child);
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        ensure!(line.trim() == crate::stub::READY, "the stub daemon did not start: {line}");
        Ok(stub)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
