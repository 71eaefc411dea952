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

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use vpc_wire::cni::{CniError, Command, Environment, ErrorCode, Invocation, NetConf, Version, read_input};

use crate::call::Call;
use crate::failpoint::Point;
use crate::network::Network;

/// Twice what an ADD takes; only the pages that are touched are there.
#[global_allocator]
static MEMORY: arena::Arena<{ 512 << 10 }> = arena::Arena::new();

fn main() -> ExitCode {
    let called_at = network::called_now();
    if Point::listed() {
        return ExitCode::SUCCESS;
    }
    match Environment::read(|name| std::env::var_os(name)) {
        Ok(Environment::NotCalledByARuntime) => about(),
        Ok(Environment::Called(invocation)) if invocation.command == Command::Version => say(&Version::reply()),
        Ok(Environment::Called(invocation)) => answer(invocation, called_at),
        Err(error) => fail(&error, Version::LATEST),
    }
}

/// For a person who calls the program by hand.
fn about() -> ExitCode {
    let text =
        format!("AWS CNI {}\nCNI protocol versions supported: {}\n", env!("CARGO_PKG_VERSION"), Version::list(", "));
    // With standard error closed there is nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn answer(invocation: Invocation, called_at: u64) -> ExitCode {
    let read = read_input(std::io::stdin(), INPUT).and_then(|input| NetConf::parse(&input).map(|conf| (input, conf)));
    let (input, conf) = match read {
        Ok(read) => read,
        Err(error) => return fail(&error, Version::LATEST),
    };
    let version = conf.version;
    let served = match invocation.command {
        verb @ (Command::Status | Command::Gc) => serve_network(verb, conf, &input, called_at),
        _ => serve(invocation, conf),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, version),
    }
}

fn serve(invocation: Invocation, conf: NetConf) -> Result<(), CniError> {
    let command = invocation.command;
    match command {
        Command::Add | Command::Del => {}
        Command::Check if conf.version >= Version::V0_4_0 => {}
        Command::Check => return Err(too_old(command, Version::V0_4_0, conf.version)),
        Command::Status | Command::Gc | Command::Version => return Err(not_offered(command)),
    }
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

/// The verbs about the network as a whole. CNI specification 1.1.0 brought both.
fn serve_network(verb: Command, conf: NetConf, input: &[u8], called_at: u64) -> Result<(), CniError> {
    if conf.version < Version::V1_1_0 {
        return Err(too_old(verb, Version::V1_1_0, conf.version));
    }
    let network = Network::new(verb, conf, called_at);
    if verb == Command::Status {
        // Runtimes ask every few seconds: only what is wrong is worth a line.
        return status::status(&network).inspect_err(|error| network.log.end(&Err(error.clone())));
    }
    let outcome = gc::gc(&network, input);
    network.log.end(&outcome);
    outcome
}

/// A verb that the configuration's version does not have.
fn too_old(command: Command, since: Version, version: Version) -> CniError {
    CniError::new(
        ErrorCode::IncompatibleVersion,
        format!("{} exists since CNI {since}: `cniVersion` is {version}", command.as_str()),
    )
}

/// A verb that is not about a container.
fn not_offered(command: Command) -> CniError {
    CniError::new(ErrorCode::NotOffered, format!("{} is not about a container", command.as_str()))
}

/// How long a runtime may take to write its configuration and close its end.
const INPUT: Duration = Duration::from_secs(10);

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &CniError, version: Version) -> ExitCode {
    // Whether or not anyone still reads: the exit code says it too.
    let _ = std::io::stdout().write_all(error.to_json(version).as_bytes());
    ExitCode::FAILURE
}
