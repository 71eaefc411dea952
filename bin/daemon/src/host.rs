//! The hand on the host's network, on a thread of its own: one conversation with the kernel at a time, and it may take its time.

use std::io;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::thread;

use vpc_agent::{DoomedLink, Input};
use vpc_hostnet::{HostOp, HostState};

use crate::door::Door;
use crate::failpoint::Point;
use crate::shell::HostWork;

/// What may be done to a host. The kernel's is [`vpc_linux::LinuxHost`]; a test has one made of maps.
pub trait Hand: Send + 'static {
    /// Everything that concerns us, as it is now.
    ///
    /// # Errors
    /// What could not be read, in words.
    fn observe(&mut self) -> Result<HostState, String>;

    /// Makes the changes in their order; goes on after one that fails.
    ///
    /// # Errors
    /// What could not be done, in words.
    fn apply(&mut self, ops: &[HostOp]) -> Result<(), String>;

    /// Removes these links together, each only if its alias says that it is its owner's.
    ///
    /// # Errors
    /// What could not be done, in words.
    fn remove_links(&mut self, links: &[DoomedLink]) -> Result<(), String>;

    /// Has the kernel forget every tracked connection from or to these addresses.
    ///
    /// # Errors
    /// What could not be done, in words.
    fn forget_flows(&mut self, addresses: &[Ipv4Addr]) -> Result<(), String>;
}

/// Starts the thread.
///
/// # Errors
/// The system gives no thread.
pub fn start(mut hand: impl Hand, door: Door) -> io::Result<mpsc::Sender<HostWork>> {
    let (work, inbox) = mpsc::channel();
    thread::Builder::new().name("host".to_owned()).spawn(move || {
        for work in inbox {
            door.tell_from_thread(carry_out(&mut hand, work));
        }
    })?;
    Ok(work)
}

fn carry_out(hand: &mut impl Hand, work: HostWork) -> Input {
    match work {
        HostWork::Observe(op) => {
            Point::HostBeforeObserve.pass();
            Input::HostObserved { op, result: hand.observe() }
        }
        HostWork::Flush(op, addresses) => {
            Point::HostBeforeFlush.pass();
            let result = hand.forget_flows(&addresses);
            Point::HostAfterFlush.pass();
            Input::FlowsFlushed { op, result }
        }
        HostWork::RemoveLinks(op, links) => {
            Point::HostBeforeUnlink.pass();
            let result = hand.remove_links(&links);
            Point::HostAfterUnlink.pass();
            Input::LinksRemoved { op, result }
        }
        HostWork::Apply(op, ops) => {
            Point::HostBeforeApply.pass();
            let result = hand.apply(&ops);
            Point::HostAfterApply.pass();
            Input::HostApplied { op, result }
        }
    }
}
