//! The kernel as the host's hand and as a source of news.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vpc_agent::{DoomedLink, Input};
use vpc_hostnet::{HostOp, HostState};
use vpc_linux::{Interest, LinkEvent, LinkMonitor, LinuxHost, NetlinkError};
use vpc_model::VethPrefix;

use crate::door::Door;
use crate::host::Hand;

impl Hand for LinuxHost {
    fn observe(&mut self) -> Result<HostState, String> {
        Self::observe(self).map_err(|error| error.to_string())
    }

    fn apply(&mut self, ops: &[HostOp]) -> Result<(), String> {
        Self::apply(self, ops).map_err(|error| error.to_string())
    }

    fn remove_links(&mut self, links: &[DoomedLink]) -> Result<(), String> {
        let named = links.iter().map(|doomed| (&doomed.link, &doomed.owner));
        let count = self.remove_pod_links(named).map_err(|error| error.to_string())?;
        tracing::debug!(asked = links.len(), links = count, "links of pods that have ended are removed");
        Ok(())
    }

    fn forget_flows(&mut self, addresses: &[Ipv4Addr]) -> Result<(), String> {
        let count = Self::forget_flows(self, addresses).map_err(|error| error.to_string())?;
        tracing::debug!(
            addresses = addresses.len(),
            flows = count,
            "tracked connections of rested addresses are forgotten"
        );
        Ok(())
    }
}

/// How long news are gathered after some were told: a burst of changes is one change.
const GATHER: Duration = Duration::from_millis(20);

/// Listens to links and rules. To be opened before the host is looked at, so that nothing falls between.
///
/// # Errors
/// The system has no netlink socket to give.
pub fn listen() -> Result<LinkMonitor, NetlinkError> {
    LinkMonitor::open(Interest { routes: false, rules: true })
}

/// Reports changes of the host, from a thread of its own, until the process ends. Links of pods are the plugin's business and say
/// nothing new.
///
/// # Errors
/// The system gives no thread.
pub fn watch(mut monitor: LinkMonitor, prefix: VethPrefix, door: Door) -> io::Result<()> {
    let watching = move || {
        let why = loop {
            match news(&mut monitor, &prefix) {
                Ok(true) => {
                    door.tell_from_thread(Input::HostChanged);
                    thread::sleep(GATHER);
                }
                Ok(false) => {}
                Err(why) => break why,
            }
        };
        tracing::error!("changes of the host are only seen by the regular look: {why}");
    };
    thread::Builder::new().name("watch".to_owned()).spawn(watching).map(drop)
}

/// Waits for something to read; says whether it concerns us.
fn news(monitor: &mut LinkMonitor, prefix: &VethPrefix) -> Result<bool, String> {
    match poll(&mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => drain(monitor, prefix).map_err(|error| error.to_string()),
        Err(errno) => Err(errno.to_string()),
    }
}

/// Reads all there is; says whether any of it concerns us.
fn drain(monitor: &mut LinkMonitor, prefix: &VethPrefix) -> Result<bool, NetlinkError> {
    let mut news = false;
    while let Some(event) = monitor.next_event()? {
        news |= match event {
            LinkEvent::Link(link) | LinkEvent::LinkGone(link) => {
                let pods = link.kind.as_deref() == Some("veth") && link.name.as_str().starts_with(prefix.as_str());
                !pods || prefix.as_str().is_empty()
            }
            LinkEvent::Rule | LinkEvent::Lost => true,
            LinkEvent::Route => false,
        };
    }
    Ok(news)
}
