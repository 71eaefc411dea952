//! `aws-cni`: the plugin a container runtime starts for each pod, once to wire it and once to unwire it.
//!
//! ```text
//!   containerd --environment, stdin--> aws-cni ==gRPC, unix socket==> daemon: take an address, give it back
//!                                        |
//!                                        +--one netlink conversation--> veth pair, routes, rules
//!                                        |
//!   containerd <--result or error on stdout, exit 0 or 1
//! ```
//!
//! The process lives for a millisecond: no argument parser, no subscriber, no runtime; the one gRPC call is made with blocking system calls.

mod add;
mod arena;
mod call;
mod check;
mod daemon;
mod del;
mod failpoint;
mod gc;
mod host;
mod log;
mod network;
mod policy;
mod status;

use std::process::ExitCode;

use vpc_wire::cni::{CniError, Command, Failure, Invocation, NetConf, run_program};

use crate::call::Call;
use crate::failpoint::Point;
use crate::log::Log;
use crate::network::Network;

/// The reserve is twice what an ADD takes. Only the pages that are touched are there.
#[global_allocator]
static MEMORY: arena::Arena<{ 1 << 20 }, { 512 << 10 }> = arena::Arena::new();

fn main() -> ExitCode {
    let called_at = network::called_now();
    if Point::listed() {
        return ExitCode::SUCCESS;
    }
    let about = concat!("AWS CNI ", env!("CARGO_PKG_VERSION"));
    run_program(about, |invocation, input| answer(invocation, input, called_at))
}

/// Verbs that have a result write it themselves: one that nobody hears is to be undone.
fn answer(invocation: Invocation, input: &[u8], called_at: u64) -> Result<String, Failure> {
    let conf = NetConf::parse(input)?;
    let (verb, version) = (invocation.command, conf.version);
    // From here on there may be something to undo.
    MEMORY.open_reserve();
    let suits = verb.must_be_in(version).and_then(|()| conf.must_suit(verb));
    let suits = suits.inspect_err(|error| Log::refused(&conf, verb, error));
    let served = suits.and_then(|()| match verb {
        Command::Status | Command::Gc => serve_network(verb, conf, input, called_at),
        Command::Add | Command::Del | Command::Check | Command::Version => serve(invocation, conf),
    });
    served.map(|()| String::new()).map_err(|error| Failure { error, version })
}

fn serve(invocation: Invocation, conf: NetConf) -> Result<(), CniError> {
    let command = invocation.command;
    let call = Call::new(invocation, conf)?;
    call.log.begin(&call);
    Point::Begin.pass();
    let outcome = match command {
        Command::Add => add::add(&call),
        Command::Check => check::check(&call),
        _ => del::del(&call),
    };
    call.log.end(&outcome);
    outcome
}

/// The verbs about the network as a whole.
fn serve_network(verb: Command, conf: NetConf, input: &[u8], called_at: u64) -> Result<(), CniError> {
    let network = Network::new(verb, conf, called_at);
    if verb == Command::Status {
        // Runtimes ask every few seconds: only what is wrong is worth a line.
        return status::status(&network).inspect_err(|error| network.log.end(&Err(error.clone())));
    }
    network.log.oddities(&network.conf);
    let outcome = gc::gc(&network, input);
    network.log.end(&outcome);
    outcome
}
