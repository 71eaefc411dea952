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
mod call;
mod check;
mod daemon;
mod del;
mod failpoint;
mod host;
mod log;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use vpc_wire::cni::{CniError, Command, Environment, ErrorCode, Invocation, NetConf, Version};

use crate::call::Call;
use crate::failpoint::Point;

fn main() -> ExitCode {
    if Point::listed() {
        return ExitCode::SUCCESS;
    }
    match Environment::read(|name| std::env::var_os(name)) {
        Ok(Environment::NotCalledByARuntime) => about(),
        Ok(Environment::Called(invocation)) if invocation.command == Command::Version => say(&Version::reply()),
        Ok(Environment::Called(invocation)) => answer(invocation),
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

fn answer(invocation: Invocation) -> ExitCode {
    let conf = match read_input().and_then(|input| NetConf::parse(&input)) {
        Ok(conf) => conf,
        Err(error) => return fail(&error, Version::LATEST),
    };
    let version = conf.version;
    match serve(invocation, conf) {
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

/// A verb that the configuration's version does not have.
fn too_old(command: Command, since: Version, version: Version) -> CniError {
    CniError::new(
        ErrorCode::IncompatibleVersion,
        format!("{} exists since CNI {since}: `cniVersion` is {version}", command.as_str()),
    )
}

/// The verbs that are not answered yet. A runtime calls STATUS and GC only for lists of version 1.1.0, which ours is not.
fn not_offered(command: Command) -> CniError {
    CniError::new(
        ErrorCode::NotOffered,
        format!("this plugin does not offer {}: it answers ADD, DEL, CHECK and VERSION", command.as_str()),
    )
}

/// The whole of standard input.
fn read_input() -> Result<Vec<u8>, CniError> {
    /// A configuration with its previous result has a few kilobytes.
    const LIMIT: u64 = 16 << 20;
    let mut input = Vec::new();
    std::io::stdin()
        .take(LIMIT + 1)
        .read_to_end(&mut input)
        .map_err(|error| CniError::new(ErrorCode::Io, format!("standard input can not be read: {error}")))?;
    if input.len() as u64 > LIMIT {
        return Err(CniError::new(ErrorCode::Decode, format!("standard input has more than {} MiB", LIMIT >> 20)));
    }
    Ok(input)
}

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
