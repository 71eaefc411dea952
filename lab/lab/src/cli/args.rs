//! What can be typed.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::complete::{self, Shell};
use super::sim::Sim;
use crate::control::Place;
use crate::fault;
use crate::kubelet::PodName;
use crate::place::DEFAULT_LAB;

/// A VPC on one machine: EC2, nodes, pods and real packets in namespaces, without root and without a cloud account.
#[derive(Debug, Parser)]
#[command(name = "vpc-lab", version, arg_required_else_help = true)]
pub(super) struct Cli {
    /// Which lab.
    #[arg(long, global = true, default_value = DEFAULT_LAB, env = "VPC_LAB", value_name = "NAME", add = ArgValueCandidates::new(complete::labs))]
    pub(super) lab: String,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a lab; returns when it is ready, and the lab stays in the background.
    ///
    /// docs/lab.md lists the keys of topology files.
    Up {
        /// Topology file, or the name of a ready topology (`vpc-lab topology` lists them); without either: three nodes in three
        /// zones.
        #[arg(add = ArgValueCompleter::new(complete::topologies_or_files))]
        topology: Option<PathBuf>,
    },
    /// End a lab. Nothing of it is left.
    Down,
    /// Draw the lab: the VPC, its subnets, the nodes with ENIs and pods, what lies around, faults that hold, packets dropped.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Draw it again every so many seconds (1 unless said otherwise), until interrupted or the lab is down.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds, conflicts_with = "json")]
        watch: Option<Duration>,
    },
    /// Make and delete pods (their networks).
    Pod {
        #[command(subcommand)]
        command: PodCommand,
    },
    /// Run a program in a node, a pod or the internet; its streams and exit code are passed through.
    Exec {
        /// NODE, NODE/NAMESPACE/NAME, `world`, `fabric` (the VPC's router), `fabric/GATEWAY` (`igw`, `vgw`, or a NAT gateway's name),
        /// `peer:NAME`, `on-premises` or `endpoint:SERVICE`.
        #[arg(add = ArgValueCandidates::new(complete::places))]
        place: Place,
        /// Program and arguments. `vpc-lab tool --help` lists small programs that are always there.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the packets of a link.
    Capture {
        /// Where: as for `exec`.
        #[arg(add = ArgValueCandidates::new(complete::places))]
        place: Place,
        /// Link (eth0; in `fabric` the ports of the ENIs).
        link: String,
        /// Write them to a file for Wireshark or tcpdump instead.
        #[arg(short, long, value_name = "FILE.pcap")]
        write: Option<PathBuf>,
        /// End after so many packets.
        #[arg(short, long)]
        count: Option<u64>,
    },
    /// List every call of EC2 and IMDS: time, caller, parameters, answer.
    Calls {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Only those of this node.
        #[arg(long, add = ArgValueCandidates::new(complete::nodes))]
        node: Option<String>,
        /// Only this action, with * for any text: `Describe*`; for the Kubernetes API a verb (`list`).
        #[arg(long)]
        action: Option<String>,
        /// Only such as were refused, or not answered.
        #[arg(long)]
        errors: bool,
        /// Calls of the Kubernetes API instead.
        #[arg(long, conflicts_with = "node")]
        kubernetes: bool,
    },
    /// Print what a node's daemon has written: to stdout and stderr, and to the CNI's log file.
    Logs {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
        /// Go on as it writes, until interrupted or the lab is down.
        #[arg(short, long)]
        follow: bool,
        /// What the plugin has written to its log file instead.
        #[arg(long)]
        plugin: bool,
    },
    /// Print what `kubectl` needs to reach the lab's Kubernetes API: write it to a file and name that in KUBECONFIG.
    Kubeconfig,
    /// Print what AWS's tools need to speak to the lab from this shell: `eval "$(vpc-lab env)"`.
    Env,
    /// Turn a node's power on or off; add and remove nodes.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Make things go wrong, and right again; play scenarios.
    Fault {
        #[command(subcommand)]
        command: FaultCommand,
    },
    /// Kill, stop or start a node's daemon.
    Daemon {
        #[command(subcommand)]
        command: DaemonCommand,
    },
    /// Serve EC2 and IMDS alone, without namespaces, until interrupted.
    Cloud {
        /// Address and port to listen on.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
        listen: String,
        /// Topology file or name, as for `up`.
        #[arg(add = ArgValueCompleter::new(complete::topologies_or_files))]
        topology: Option<PathBuf>,
        /// Id or name of the instance that IMDS speaks to; without one the first.
        #[arg(long)]
        instance: Option<String>,
    },
    /// Play the demo: nine scenes on real packets; fails when the story is not true.
    Demo {
        /// Name or number of one scene; without it all.
        scene: Option<String>,
    },
    /// Print a completion script for a shell: `source <(vpc-lab completion bash)`.
    Completion {
        /// Which.
        shell: Shell,
    },
    /// Simulate: real daemons and the cloud's model in one process with made-up time, with all sorts of trouble. Needs no lab.
    ///
    /// A seed decides everything. Exit codes: 0 nothing wrong, 1 something wrong was found, 2 it could not be run.
    /// docs/simulation.md says what is simulated and what to do with what is found.
    Sim(Sim),
    /// List the topologies that come with the program, or print one, to start your own from.
    Topology {
        /// Which.
        #[arg(add = ArgValueCandidates::new(complete::topologies))]
        name: Option<String>,
    },
    /// Small network programs, for use with `exec`.
    #[command(hide = true)]
    Tool {
        #[command(subcommand)]
        command: ToolCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PodCommand {
    /// List the pods of a node, or of all.
    List {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a pod's network: a namespace, and ADD through the node's plugins.
    Add {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
        /// NAMESPACE/NAME
        pod: PodName,
        /// Sandboxes to try before giving up.
        #[arg(long, default_value_t = 10)]
        attempts: u32,
    },
    /// Take a pod's network down: DEL through the node's plugins, then the namespace goes.
    Del {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
        /// NAMESPACE/NAME
        pod: PodName,
    },
    /// Make or delete pods until the node has so many of those made by this command.
    Scale {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
        /// How many; no more than the node's type could ever have addresses for.
        count: u32,
        /// Sandboxes to try for each before giving up.
        #[arg(long, default_value_t = 10)]
        attempts: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Power on; comes back when the node is ready and has its pods again.
    On {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
    /// Power off: everything in it is gone at once; its disk stays.
    Off {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
    /// Launch a node, as `aws ec2 run-instances` does; comes back when it is ready.
    Add {
        /// Its name.
        node: String,
        /// Its subnet, by name or id.
        #[arg(long, add = ArgValueCandidates::new(complete::subnets))]
        subnet: String,
        /// Its instance type; without one that of the topology's `node_defaults`.
        #[arg(long = "type", value_name = "TYPE")]
        instance_type: Option<String>,
    },
    /// Terminate a node's instance; nothing of the node stays.
    Remove {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum FaultCommand {
    /// List the faults of this lab: those that hold, those that were lifted, those that happened once.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Begin a fault.
    ///
    /// Examples:
    ///   vpc-lab fault add error action=AssignPrivateIpAddresses when=lost times=1
    ///   vpc-lab fault add cut node=node-a from=ec2 --for 10s
    ///   vpc-lab fault add starve node=node-a run_ms=20 stop_ms=180
    #[command(verbatim_doc_comment, after_help = fault::help())]
    Add {
        /// What goes wrong: one of the kinds below.
        #[arg(add = ArgValueCandidates::new(complete::faults))]
        kind: String,
        /// KEY=VALUE, as the kind takes them.
        keys: Vec<String>,
        /// Lift it after so long (250ms, 1.5s, 2m).
        #[arg(long, value_name = "TIME", value_parser = fault::duration)]
        r#for: Option<Duration>,
    },
    /// End faults.
    Lift {
        /// Their numbers, as `fault list` shows them.
        #[arg(required_unless_present = "all")]
        ids: Vec<u64>,
        /// All that hold.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Play a scenario, step by step, and come back when it is over.
    Run {
        /// Scenario file (TOML), or the name of a ready scenario; without either, the ready ones are listed.
        #[arg(add = ArgValueCompleter::new(complete::scenarios_or_files))]
        scenario: Option<PathBuf>,
        /// Only check it, and say what would happen.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DaemonCommand {
    /// SIGKILL.
    Kill {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
    /// SIGTERM, and wait for its end.
    Stop {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
    /// Start it again, and wait until the node's network is configured.
    Start {
        /// Node.
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ToolCommand {
    /// Send echo requests; prints what came of each as JSON.
    Ping {
        /// Address.
        to: Ipv4Addr,
        /// Requests.
        #[arg(long, default_value_t = 1)]
        count: u16,
        /// Bytes of payload.
        #[arg(long, default_value_t = 56)]
        size: usize,
        /// Never fragment.
        #[arg(long)]
        dont_fragment: bool,
        /// From one request to the next, in milliseconds.
        #[arg(long, default_value_t = 100)]
        interval_ms: u64,
        /// For each answer, in milliseconds.
        #[arg(long, default_value_t = 1000)]
        timeout_ms: u64,
        /// Claim to be this address.
        #[arg(long)]
        source: Option<Ipv4Addr>,
    },
    /// Ask a DNS server; prints what came as JSON.
    Dns {
        /// Name.
        name: String,
        /// Address of the server.
        #[arg(long)]
        server: Ipv4Addr,
        /// Type of record.
        #[arg(long = "type", default_value = "A", value_name = "TYPE")]
        kind: String,
        /// Over TCP.
        #[arg(long)]
        tcp: bool,
        /// For the answer, in milliseconds.
        #[arg(long, default_value_t = 2000)]
        timeout_ms: u64,
    },
    /// Ask a web server; prints status and body as JSON.
    Get {
        /// http://HOST[:PORT]/PATH
        url: String,
        /// Method.
        #[arg(long, default_value = "GET")]
        method: String,
        /// NAME: VALUE
        #[arg(long)]
        header: Vec<String>,
        /// For the connection and each piece of the answer, in milliseconds.
        #[arg(long, default_value_t = 2000)]
        timeout_ms: u64,
    },
    /// Measure what the fabric costs beside a plain router, in a network of its own; prints both as JSON.
    Cost {
        /// Turns; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Round trips in each.
        #[arg(long, default_value_t = 10_000)]
        round_trips: usize,
        /// How long a stream runs in each, in milliseconds.
        #[arg(long, default_value_t = 1000)]
        millis: u64,
    },
    /// Take one connection on a TCP port and read it to its end; prints how much came as JSON.
    Sink {
        /// Port.
        port: u16,
    },
    /// Write to a TCP port as fast as it takes it; prints how much went as JSON.
    Pour {
        /// Address.
        to: Ipv4Addr,
        /// Port.
        port: u16,
        /// For so long, in milliseconds.
        #[arg(long, default_value_t = 1000)]
        millis: u64,
    },
    /// Answer everybody on a TCP port with the address he came from.
    Serve {
        /// Port.
        port: u16,
    },
}

/// A time in seconds; less than a tenth is no picture for people.
fn seconds(text: &str) -> Result<Duration, String> {
    const LEAST: f64 = 0.1;
    const MOST: f64 = 86_400.0;
    let known = text.parse::<f64>().ok().filter(|seconds| (LEAST..=MOST).contains(seconds));
    known
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("expected seconds from {LEAST} to {MOST}, such as 2 or 0.5"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    /// What people can type, commands below commands included.
    fn typed(command: &clap::Command, all: &mut BTreeSet<String>) {
        for argument in command.get_arguments() {
            all.extend(argument.get_long().map(|long| format!("--{long}")));
            all.extend(argument.get_short().map(|short| format!("-{short}")));
            if let Some(variable) = argument.get_env() {
                all.insert(variable.to_str().unwrap().to_owned());
            }
        }
        command.get_subcommands().filter(|sub| !sub.is_hide_set()).for_each(|sub| typed(sub, all));
    }

    #[test]
    fn every_option_and_its_address_are_documented() {
        // The simulator has a page of its own.
        let pages = ["lab.md", "simulation.md"].map(|page| {
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page)).unwrap()
        });
        let text = pages.join("\n");
        let words: BTreeSet<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_/.:".contains(c))).collect();
        let mut all =
            BTreeSet::from(["127.0.0.1:8080", "fabric/GATEWAY", "fabric/igw", "VPC_LAB_LOG"].map(str::to_owned));
        typed(&Cli::command(), &mut all);
        assert!(["--attempts", "-c", "--instance", "VPC_LAB"].iter().all(|known| all.contains(*known)), "{all:?}");
        let silent: Vec<_> = all.iter().filter(|option| !words.contains(option.as_str())).collect();
        assert!(silent.is_empty(), "docs/lab.md and docs/simulation.md say nothing of: {silent:?}");
    }
}
