//! The command line.

mod args;
mod calls;
mod complete;
mod fault;
mod picture;
mod progress;
mod show;
mod sim;
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Parser;
use lab_serve::standalone;
use vpc_model::WallTime;

use crate::capture::{PcapWriter, read_packet, wait_readable};
use crate::control::{DaemonAction, Failure, LogSource, Place};
use crate::demo;
use crate::fabric::{CostOptions, measure};
use crate::lab::{Lab, LabError, StartOptions};
use crate::sys::init;
use crate::sys::userns::leave_the_network;
use crate::tools::{self, DnsOptions, HttpOptions, PingOptions};
use crate::topology::{READY, Ready, Topology, TopologyFile};
use crate::{place, supervisor};
use args::{Cli, Command, DaemonCommand, NodeCommand, PodCommand, ToolCommand};
use picture::Paint;

/// Exit code of a program that could not be started, as shells have it: not there, and not to be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// `main` of `vpc-lab`.
#[must_use]
pub fn main() -> ExitCode {
    // The two hidden faces of this program: PID 1 of a node, and the process behind a lab.
    match std::env::args().nth(1).as_deref() {
        Some(init::SUBCOMMAND) => {
            return match init::main() {
                Err(_) => ExitCode::FAILURE,
                Ok(never) => match never {},
            };
        }
        Some(supervisor::SUBCOMMAND) => return supervisor::main(),
        _ => {}
    }
    complete::answer();
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(e) => {
            let mut text = format!("{e:#}");
            if !text.ends_with('\n') {
                text.push('\n');
            }
            io::stderr().write_all(format!("vpc-lab: {text}").as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let name = cli.lab.as_str();
    match cli.command {
        Command::Up { topology } => return up(name, topology.as_deref()),
        Command::Down => Lab::open(name)?.down()?,
        Command::Status { watch: Some(every), .. } => watch::run(name, every)?,
        Command::Status { json: true, .. } => print(&to_json(&Lab::open(name)?.status()?)?)?,
        Command::Status { .. } => print(&drawn(&Lab::open(name)?)?)?,
        Command::Pod { command } => return pod(&Lab::open(name)?, command),
        Command::Exec { place, command } => return exec(&Lab::open(name)?, &place, &command),
        Command::Capture { place, link, write, count } => {
            capture(&Lab::open(name)?, &place, &link, write.as_deref(), count)?
        }
        Command::Calls { json, node, action, errors, kubernetes } => {
            calls::run(&Lab::open(name)?, &calls::Wanted { json, node, action, errors, kubernetes })?
        }
        Command::Logs { node, follow, plugin } => logs(&Lab::open(name)?, &node, follow, plugin)?,
        Command::Kubeconfig => kubeconfig(&Lab::open(name)?)?,
        Command::Completion { shell } => print(&complete::script(shell)?)?,
        Command::Env => print(&show::environment(&Lab::open(name)?.host_environment()?))?,
        Command::Node { command } => node(&Lab::open(name)?, command)?,
        Command::Fault { command } => fault::run(name, command)?,
        Command::Daemon { command } => {
            let (node, action) = match &command {
                DaemonCommand::Kill { node } => (node, DaemonAction::Kill),
                DaemonCommand::Stop { node } => (node, DaemonAction::Stop),
                DaemonCommand::Start { node } => (node, DaemonAction::Start),
            };
            Lab::open(name)?.daemon(node, action)?;
        }
        Command::Cloud { listen, topology, instance } => cloud(&listen, topology.as_deref(), instance.as_deref())?,
        Command::Demo { scene } => return Ok(demo::run(scene.as_deref())),
        Command::Sim(wanted) => return sim::run(wanted),
        Command::Topology { name } => ready(name.as_deref())?,
        Command::Tool { command } => tool(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn topology(file: Option<&Path>) -> anyhow::Result<Topology> {
    let Some(path) = file else { return Ok(Topology::built_in()?) };
    // A file of that name goes first.
    let ready = path.to_str().filter(|_| !path.exists()).and_then(Ready::named);
    if let Some(ready) = ready {
        return Ok(TopologyFile::parse(ready.text)?.resolve()?);
    }
    if !path.exists() && path.components().count() == 1 && path.extension().is_none() {
        let names: Vec<_> = READY.iter().map(|ready| ready.name).collect();
        bail!(
            "there is no file {0} and no ready topology `{0}`: expected a file, or one of {1}",
            path.display(),
            names.join(", ")
        );
    }
    let read = TopologyFile::read(path)?;
    read.resolve().with_context(|| path.display().to_string())
}

/// The ready topologies, or one of them.
fn ready(name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else {
        let lines = READY.iter().map(|ready| format!("{:<18} {}\n", ready.name, ready.about));
        return print(&lines.collect::<String>());
    };
    match Ready::named(name) {
        Some(ready) => print(ready.text),
        None => bail!("there is no ready topology `{name}`; `vpc-lab topology` lists them"),
    }
}

fn up(name: &str, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let topology = topology(file)?;
    let options = StartOptions { name: name.to_owned(), ..StartOptions::default() };
    let mut board = progress::Board::new();
    let (lab, warnings) = Lab::start_telling(&topology, &options, |step| board.tell(step))?;
    print(&drawn(&lab)?)?;
    let default = name == place::DEFAULT_LAB;
    if warnings.is_empty() {
        let node = topology.nodes.iter().find(|node| node.daemon.is_some()).map(|node| node.name.as_str());
        print(&progress::next_steps(name, default, node))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = warnings.join("\n");
    let flag = if default { String::new() } else { format!(" --lab {name}") };
    bail!("{text}\nThe lab stays up to be looked at (`vpc-lab exec{flag} NODE -- …`); `vpc-lab down{flag}` ends it.")
}

fn drawn(lab: &Lab) -> anyhow::Result<String> {
    Ok(picture::status(&lab.status()?, Paint { colours: colours(), now: SystemTime::now() }))
}

/// What a node's daemon (or plugin) has written, and what it will.
fn logs(lab: &Lab, node: &str, follow: bool, plugin: bool) -> anyhow::Result<()> {
    /// From one look to the next, while nothing comes.
    const GLANCE: Duration = Duration::from_millis(200);
    let sources = if plugin { vec![LogSource::Plugin] } else { vec![LogSource::Output, LogSource::Daemon] };
    let mut sources: Vec<_> = sources.into_iter().map(|source| (source, 0)).collect();
    let mut first = true;
    loop {
        let mut quiet = true;
        for (source, from) in &mut sources {
            let piece = match lab.log(node, *source, *from) {
                // It was there a moment ago.
                Err(LabError::Down { .. } | LabError::Gone { .. }) if !first => return Ok(()),
                other => other?,
            };
            first = false;
            quiet &= piece.text.is_empty();
            *from = piece.next;
            print(&piece.text)?;
        }
        match (quiet, follow) {
            (true, false) => return Ok(()),
            (true, true) => std::thread::sleep(GLANCE),
            (false, _) => {}
        }
    }
}

fn kubeconfig(lab: &Lab) -> anyhow::Result<()> {
    let file = lab.place().kubeconfig();
    match std::fs::read_to_string(&file) {
        Ok(text) => print(&text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let problem = lab.status()?.host.problem;
            bail!(
                "{}",
                problem.unwrap_or_else(|| {
                    "the Kubernetes API can not be reached from this machine: it has no loopback to listen on"
                        .to_owned()
                })
            )
        }
        Err(e) => Err(e).with_context(|| file.display().to_string()),
    }
}

fn pod_list(lab: &Lab, node: Option<&str>, json: bool) -> anyhow::Result<()> {
    let nodes = lab.status()?.nodes;
    if let Some(name) = node
        && nodes.iter().all(|known| known.name != name)
    {
        let known = nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Failure::NoNode { name: name.to_owned(), known }.into());
    }
    let wanted = nodes.iter().filter(|known| node.is_none_or(|name| name == known.name));
    let pods: Vec<_> = wanted.flat_map(|node| &node.pods).collect();
    print(&if json { to_json(&pods)? } else { show::pods(&pods) })
}

fn node(lab: &Lab, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::On { node } => Ok(lab.power(&node, true)?),
        NodeCommand::Off { node } => Ok(lab.power(&node, false)?),
        NodeCommand::Add { node, subnet, instance_type } => {
            lab.node_add(Some(&node), &subnet, instance_type.as_deref())?;
            Ok(())
        }
        NodeCommand::Remove { node } => Ok(lab.node_remove(&node)?),
    }
}

fn pod(lab: &Lab, command: PodCommand) -> anyhow::Result<ExitCode> {
    match command {
        PodCommand::List { node, json } => pod_list(lab, node.as_deref(), json)?,
        PodCommand::Add { node, pod, attempts } => {
            let status = lab.pod_add(&node, &pod, attempts)?;
            print(&show::pod_added(&status))?;
        }
        PodCommand::Del { node, pod } => lab.pod_del(&node, &pod)?,
        PodCommand::Scale { node, count, attempts } => {
            let report = lab.pod_scale(&node, count, attempts)?;
            print(&show::scaled(&report))?;
            if !report.failed.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(lab: &Lab, place: &Place, command: &[String]) -> anyhow::Result<ExitCode> {
    let env: BTreeMap<_, _> = std::env::var("TERM").map(|term| ("TERM".to_owned(), term)).into_iter().collect();
    match lab.exec(place, command, env) {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        Err(LabError::Refused(failure @ Failure::Exec { missing, .. })) => {
            writeln!(io::stderr(), "vpc-lab: {failure}").ok();
            Ok(ExitCode::from(if missing { NOT_FOUND } else { NOT_RUN }))
        }
        Err(e) => Err(e.into()),
    }
}

/// Shows (or writes) packets until interrupted, or so many.
fn capture(lab: &Lab, place: &Place, link: &str, write: Option<&Path>, count: Option<u64>) -> anyhow::Result<()> {
    let socket = lab.capture_socket(place, link)?;
    let file = write.map(|path| File::create(path).with_context(|| path.display().to_string())).transpose()?;
    let mut pcap = file.map(PcapWriter::new).transpose()?;
    // Whoever started us may wait for this before he makes traffic.
    writeln!(io::stderr(), "capturing on {link} in {place}; ctrl-c ends it")?;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        wait_readable(&socket, Duration::from_secs(3600))?;
        while let Some(packet) = read_packet(&socket).context("the link has gone")? {
            match &mut pcap {
                Some(pcap) => pcap.write(&packet)?,
                None => print(&format!("{} {packet}\n", show::clock(packet.at)))?,
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// EC2 and IMDS alone, until interrupted.
fn cloud(listen: &str, file: Option<&Path>, instance: Option<&str>) -> anyhow::Result<()> {
    let topology = topology(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("listen on `{listen}` (expected ADDRESS:PORT, such as 127.0.0.1:8080)"))?;
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let wall = WallTime(i64::try_from(wall.as_nanos()).unwrap_or(0));
    let setup = topology.setup(wall);
    let (cloud, server) = standalone(listener, topology.world(), setup, instance)?;
    print(&show::cloud(server.address(), &topology, &cloud.snapshot()))?;
    runtime.block_on(server.wait());
    Ok(())
}

fn tool(command: ToolCommand) -> anyhow::Result<()> {
    match command {
        ToolCommand::Ping { to, count, size, dont_fragment, interval_ms, timeout_ms, source } => {
            let options = PingOptions {
                count,
                size,
                dont_fragment,
                interval: Duration::from_millis(interval_ms),
                timeout: Duration::from_millis(timeout_ms),
                source,
            };
            print(&to_json(&tools::ping(to, &options)?)?)
        }
        ToolCommand::Dns { name, server, kind, tcp, timeout_ms } => {
            let options = DnsOptions { server, kind, tcp, timeout: Duration::from_millis(timeout_ms) };
            print(&to_json(&tools::lookup(&name, &options))?)
        }
        ToolCommand::Get { url, method, header, timeout_ms } => {
            let split = |text: &String| {
                let (name, value) =
                    text.split_once(':').with_context(|| format!("header `{text}`: expected NAME: VALUE"))?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            };
            let headers = header.iter().map(split).collect::<anyhow::Result<_>>()?;
            let options = HttpOptions { method, headers, timeout: Duration::from_millis(timeout_ms) };
            print(&to_json(&tools::get(&url, &options))?)
        }
        ToolCommand::Cost { rounds, round_trips, millis } => {
            leave_the_network()?;
            let options = CostOptions { rounds, round_trips, stream: Duration::from_millis(millis) };
            print(&to_json(&measure(options)?)?)
        }
        ToolCommand::Sink { port } => print(&to_json(&tools::sink(port)?)?),
        ToolCommand::Pour { to, port, millis } => {
            print(&to_json(&tools::pour(to, port, Duration::from_millis(millis))?)?)
        }
        ToolCommand::Serve { port } => Ok(tools::serve(port)?),
    }
}

fn to_json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// To stdout; whoever has stopped reading (`| head`) ends us quietly.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Whether colours make sense.
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
