//! A lab as a program uses it: started, asked, ended. The command line, the demo and tests all come through here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use lab_kube::{KubeCall, KubeCallFilter};
use lab_serve::CallRecord;
use serde::de::DeserializeOwned;
use vpc_hostnet::HostState;

use crate::capture::Capture;
use crate::control::{
    Answer, DaemonAction, ExitReport, Failure, LabStatus, LogPiece, LogSource, Place, Request, ScaleReport, Visits,
};
use crate::fault::{Fault, FaultReport, NodeFault};
use crate::kubelet::{PodName, PodStatus};
use crate::place::{LabPlace, PlaceError};
use crate::supervisor::{self, Order, Progress, Report};
use crate::sys::fds;
use crate::tools::{DnsOptions, DnsReply, HttpOptions, HttpReply, PingOptions, PingReport};
use crate::topology::Topology;

/// A lab that ends may take so long.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Why a lab could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// It has no place for its files.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// It could not be started; nothing of it is left.
    #[error("the lab could not be started: {0}")]
    Start(String),
    /// No lab of that name runs.
    #[error("lab `{name}` is not up: `vpc-lab up --lab {name}` starts it{}", if running.is_empty() { String::new() } else { format!("; up are: {}", running.join(", ")) })]
    Down {
        /// The name.
        name: String,
        /// Those that run.
        running: Vec<String>,
    },
    /// It went away while it was asked.
    #[error("lab `{name}` went away while it was asked ({cause}): its last words are in {log}")]
    Gone {
        /// The name.
        name: String,
        /// What happened to the connection.
        cause: String,
        /// Its log.
        log: String,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// Something of the system that should work did not.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> LabError {
    move |cause| LabError::System { what, cause }
}

/// How a lab is started.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Its name.
    pub name: String,
    /// The `vpc-lab` program; `None`: this program itself, or `vpc-lab` beside it (or one directory above, as for cargo's tests).
    pub vpc_lab: Option<PathBuf>,
    /// Directory of `aws-cni` and `aws-k8s-agent`; `None`: that of `vpc-lab`.
    pub programs: Option<PathBuf>,
    /// It ends when the returned [`Lab`] is dropped, or the program ends, however that happens.
    pub dies_with_me: bool,
    /// Come back only when the nodes' networks are configured, or can not be.
    pub wait_for_daemons: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            name: crate::place::DEFAULT_LAB.to_owned(),
            vpc_lab: None,
            programs: None,
            dies_with_me: false,
            wait_for_daemons: true,
        }
    }
}

/// What a program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    place: LabPlace,
    /// Held open as long as the lab is wanted.
    lifeline: Option<ChildStdin>,
}

impl Lab {
    /// Starts a lab. Also returns what is not as it should be though the lab is up: nodes that are not ready.
    ///
    /// # Errors
    /// [`LabError::Start`] with the cause and the way out; nothing of the lab is left then.
    pub fn start(topology: &Topology, options: &StartOptions) -> Result<(Self, Vec<String>), LabError> {
        Self::start_telling(topology, options, |_| ())
    }

    /// As [`Lab::start`]; tells each step when it is done.
    ///
    /// # Errors
    /// See [`Lab::start`].
    pub fn start_telling(
        topology: &Topology,
        options: &StartOptions,
        mut tell: impl FnMut(&Progress),
    ) -> Result<(Self, Vec<String>), LabError> {
        let place = LabPlace::of(&options.name)?;
        if place.is_up() {
            return Err(PlaceError::Up(options.name.clone()).into());
        }
        place.create()?;
        let vpc_lab = options.vpc_lab.clone().or_else(own_program);
        let vpc_lab = vpc_lab.ok_or_else(|| {
            LabError::Start("the program `vpc-lab` is not beside this one; build it first".to_owned())
        })?;
        let programs = options.programs.clone().or_else(|| vpc_lab.parent().map(Path::to_owned)).unwrap_or_default();
        let order = Order {
            lab: options.name.clone(),
            topology: topology.clone(),
            programs,
            lifeline: options.dies_with_me,
            wait_for_daemons: options.wait_for_daemons,
        };
        let (stdin, report) = supervise(&vpc_lab, &place, &order, &mut tell)?;
        match report {
            // Not the last word: see `supervise`.
            Report::Progress(_) => Err(LabError::Start("the supervisor ended in the middle".to_owned())),
            Report::Ready { warnings } => {
                Ok((Self { place, lifeline: options.dies_with_me.then_some(stdin) }, warnings))
            }
            Report::Failed { cause } => {
                place.clear();
                Err(LabError::Start(cause))
            }
        }
    }

    /// A lab that runs.
    ///
    /// # Errors
    /// [`LabError::Down`] with the names of those that do.
    pub fn open(name: &str) -> Result<Self, LabError> {
        let place = LabPlace::of(name)?;
        if place.is_up() {
            Ok(Self { place, lifeline: None })
        } else {
            Err(LabError::Down { name: name.to_owned(), running: LabPlace::running() })
        }
    }

    /// Where its files are.
    #[must_use]
    pub fn place(&self) -> &LabPlace {
        &self.place
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`LabError::Refused`] with the lab's own reason; [`LabError::Gone`].
    pub fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, LabError> {
        Ok(self.ask_with(request, &[])?.0)
    }

    fn ask_with<T: DeserializeOwned>(
        &self,
        request: &Request,
        send: &[BorrowedFd<'_>],
    ) -> Result<(T, Vec<OwnedFd>), LabError> {
        let gone = |cause: io::Error| LabError::Gone {
            name: self.place.name.clone(),
            cause: cause.to_string(),
            log: self.place.log().display().to_string(),
        };
        let socket = UnixStream::connect(self.place.socket()).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LabError::Down { name: self.place.name.clone(), running: LabPlace::running() }
            }
            _ => gone(cause),
        })?;
        let text = serde_json::to_string(request).map_err(|e| gone(e.into()))?;
        fds::send(&socket, &text, send).map_err(gone)?;
        let (line, received) =
            fds::receive(&socket).map_err(gone)?.ok_or_else(|| gone(io::ErrorKind::UnexpectedEof.into()))?;
        let answer: Answer = serde_json::from_str(&line).map_err(|e| gone(e.into()))?;
        Ok((answer.into_value()?, received))
    }

    /// Everything to be seen.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn status(&self) -> Result<LabStatus, LabError> {
        let mut status: LabStatus = self.ask(&Request::Status)?;
        status.supervisor = self.supervisor_pid();
        Ok(status)
    }

    /// The supervisor's process id, as the host sees it.
    #[must_use]
    pub fn supervisor_pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.place.pid_file()).ok()?.trim().parse().ok()
    }

    /// Makes a pod's network; up to `attempts` sandboxes are tried.
    ///
    /// # Errors
    /// See [`Lab::ask`]; the plugin's own error is in [`Failure::Pod`].
    pub fn pod_add(&self, node: &str, pod: &PodName, attempts: u32) -> Result<PodStatus, LabError> {
        self.ask(&Request::PodAdd { node: node.to_owned(), pod: pod.clone(), annotations: BTreeMap::new(), attempts })
    }

    /// Takes a pod's network down.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn pod_del(&self, node: &str, pod: &PodName) -> Result<(), LabError> {
        self.ask(&Request::PodDel { node: node.to_owned(), pod: pod.clone() })
    }

    /// Makes or deletes pods until the node has `count` of those that scaling made.
    ///
    /// # Errors
    /// See [`Lab::ask`]. Pods that failed are in the report.
    pub fn pod_scale(&self, node: &str, count: u32, attempts: u32) -> Result<ScaleReport, LabError> {
        self.ask(&Request::PodScale { node: node.to_owned(), count, attempts })
    }

    /// Runs a program with the caller's own standard streams; its exit code.
    ///
    /// # Errors
    /// See [`Lab::ask`]; [`Failure::Exec`] when it can not be started.
    pub fn exec(&self, place: &Place, command: &[String], env: BTreeMap<String, String>) -> Result<i32, LabError> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        self.exec_with(place, command, env, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    }

    fn exec_with(
        &self,
        place: &Place,
        command: &[String],
        env: BTreeMap<String, String>,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<i32, LabError> {
        let request = Request::Exec { place: place.clone(), command: command.to_vec(), env };
        let (report, _) = self.ask_with::<ExitReport>(&request, &streams)?;
        Ok(report.code)
    }

    /// Runs a program with nothing on stdin, and keeps what it says.
    ///
    /// # Errors
    /// See [`Lab::exec`].
    pub fn run(&self, place: &Place, command: &[&str]) -> Result<Output, LabError> {
        self.run_with_input(place, command, b"")
    }

    /// Runs a program with `input` on stdin, and keeps what it says.
    ///
    /// # Errors
    /// See [`Lab::exec`].
    pub fn run_with_input(&self, place: &Place, command: &[&str], input: &[u8]) -> Result<Output, LabError> {
        let pipe = || io::pipe().map_err(system("make a pipe"));
        let ((stdin, mut feed), (mut output, stdout), (mut errors, stderr)) = (pipe()?, pipe()?, pipe()?);
        let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        std::thread::scope(|scope| {
            // Three ends, three threads: whoever waited for one would starve another.
            scope.spawn(move || feed.write_all(input).ok());
            let output = scope.spawn(move || read_all(&mut output));
            let errors = scope.spawn(move || read_all(&mut errors));
            let code =
                self.exec_with(place, &command, BTreeMap::new(), [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
            drop((stdin, stdout, stderr));
            let (stdout, stderr) = (output.join().unwrap_or_default(), errors.join().unwrap_or_default());
            Ok(Output { code: code?, stdout, stderr })
        })
    }

    /// Sends echo requests from a place, with the lab's own little ping.
    ///
    /// # Errors
    /// See [`Lab::exec`]. Lost packets are in the report.
    pub fn ping(&self, from: &Place, to: Ipv4Addr, options: &PingOptions) -> Result<PingReport, LabError> {
        self.tool(from, &options.arguments(to))
    }

    /// Asks a DNS server from a place, with the lab's own little client.
    ///
    /// # Errors
    /// See [`Lab::exec`]. That there was no answer is in the reply.
    pub fn dns(&self, from: &Place, name: &str, options: &DnsOptions) -> Result<DnsReply, LabError> {
        self.tool(from, &options.arguments(name))
    }

    /// Asks a web server from a place, with the lab's own little client.
    ///
    /// # Errors
    /// See [`Lab::exec`]. That there was no answer is in the reply.
    pub fn http(&self, from: &Place, url: &str, options: &HttpOptions) -> Result<HttpReply, LabError> {
        self.tool(from, &options.arguments(url))
    }

    fn tool<T: DeserializeOwned>(&self, from: &Place, arguments: &[String]) -> Result<T, LabError> {
        let command: Vec<_> = ["vpc-lab", "tool"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let output = self.run(from, &command)?;
        serde_json::from_str(&output.stdout).map_err(|_| {
            LabError::Refused(Failure::other(format!("{}: {}{}", command.join(" "), output.stdout, output.stderr)))
        })
    }

    /// Sees every packet of a link from now on.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn capture(&self, place: &Place, link: &str) -> Result<Capture, LabError> {
        Capture::start(self.capture_socket(place, link)?).map_err(system("start a capture"))
    }

    /// A socket for [`crate::capture::read_packet`].
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn capture_socket(&self, place: &Place, link: &str) -> Result<OwnedFd, LabError> {
        let request = Request::Capture { place: place.clone(), link: link.to_owned() };
        let ((), received) = self.ask_with::<()>(&request, &[])?;
        let missing = || LabError::Refused(Failure::other("the lab sent no socket"));
        received.into_iter().next().ok_or_else(missing)
    }

    /// All calls of EC2 and IMDS so far, oldest first.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn calls(&self) -> Result<Vec<CallRecord>, LabError> {
        self.ask(&Request::Calls)
    }

    /// The calls of the Kubernetes API that pass a filter, oldest first.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn kube_calls(&self, filter: &KubeCallFilter) -> Result<Vec<KubeCall>, LabError> {
        self.ask(&Request::KubeCalls { filter: filter.clone() })
    }

    /// What has been written on a node, from a byte on: a piece of it; an empty one is the end so far.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn log(&self, node: &str, source: LogSource, from: u64) -> Result<LogPiece, LabError> {
        self.ask(&Request::Log { node: node.to_owned(), source, from })
    }

    /// Turns a node on or off, and waits until it is; a node that comes back is ready, and has its pods again.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn power(&self, node: &str, on: bool) -> Result<(), LabError> {
        self.ask(&Request::Power { node: node.to_owned(), on })
    }

    /// Launches a node like the topology's `node_defaults` through EC2's API, and waits until it is ready; its name.
    ///
    /// # Errors
    /// See [`Lab::ask`]; EC2's refusal.
    pub fn node_add(&self, name: Option<&str>, subnet: &str, instance_type: Option<&str>) -> Result<String, LabError> {
        self.ask(&Request::NodeAdd {
            name: name.map(str::to_owned),
            subnet: subnet.to_owned(),
            instance_type: instance_type.map(str::to_owned),
        })
    }

    /// Terminates a node's instance, and waits until nothing of the node is left.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn node_remove(&self, node: &str) -> Result<(), LabError> {
        self.ask(&Request::NodeRemove { node: node.to_owned() })
    }

    /// The environment in which AWS's tools on the host speak to this lab: names and values.
    ///
    /// # Errors
    /// See [`Lab::ask`]; [`Failure::Other`] when the host had no loopback to listen on.
    pub fn host_environment(&self) -> Result<Vec<(&'static str, String)>, LabError> {
        let status = self.status()?;
        let Some(ec2) = status.host.ec2 else {
            return Err(LabError::Refused(Failure::other(status.host.problem.unwrap_or_default())));
        };
        let kubeconfig = status.host.kube.map(|_| self.place.kubeconfig().display().to_string());
        Ok([
            ("AWS_ENDPOINT_URL_EC2", format!("http://{ec2}")),
            ("AWS_ACCESS_KEY_ID", lab_cloud::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", lab_cloud::SECRET_KEY.to_owned()),
            ("AWS_DEFAULT_REGION", status.region.clone()),
            ("AWS_REGION", status.region),
        ]
        .into_iter()
        .chain(kubeconfig.map(|path| ("KUBECONFIG", path)))
        .collect())
    }

    /// Makes something go wrong; it is lifted after `lasts`, if that is given.
    ///
    /// # Errors
    /// See [`Lab::ask`]: the node, subnet, action or link that there is not, or a value that is not accepted.
    pub fn fault(&self, fault: &Fault, lasts: Option<Duration>) -> Result<FaultReport, LabError> {
        let for_ms = lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        self.ask(&Request::FaultAdd { fault: fault.clone(), for_ms })
    }

    /// Whether there is the node or subnet that a fault is about.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn check_fault(&self, fault: &Fault) -> Result<(), LabError> {
        self.ask(&Request::FaultCheck { fault: fault.clone() })
    }

    /// Whether there is a node of that name.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn check_node(&self, node: &str) -> Result<(), LabError> {
        self.check_fault(&Fault::Node(NodeFault::Reboot { node: node.to_owned() }))
    }

    /// Ends a fault.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn lift(&self, id: u64) -> Result<(), LabError> {
        self.ask::<Vec<FaultReport>>(&Request::FaultLift { id: Some(id) }).map(drop)
    }

    /// Ends all faults that hold; those that held.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn lift_all(&self) -> Result<Vec<FaultReport>, LabError> {
        self.ask(&Request::FaultLift { id: None })
    }

    /// All faults since the lab started, oldest first.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn faults(&self) -> Result<Vec<FaultReport>, LabError> {
        self.ask(&Request::Faults)
    }

    /// Kills, stops or starts a node's daemon, and waits until that is done.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn daemon(&self, node: &str, action: DaemonAction) -> Result<(), LabError> {
        self.ask(&Request::Daemon { node: node.to_owned(), action })
    }

    /// The kernel's state of a place's network.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn kernel_state(&self, place: &Place) -> Result<HostState, LabError> {
        self.ask(&Request::Kernel { place: place.clone() })
    }

    /// Visits of the public hosts, oldest first.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn visits(&self) -> Result<Visits, LabError> {
        self.ask(&Request::Visits)
    }

    /// Ends the lab, and waits until it is gone.
    ///
    /// # Errors
    /// See [`Lab::ask`].
    pub fn down(mut self) -> Result<(), LabError> {
        let pid = self.supervisor_pid();
        let ended = self.ask::<()>(&Request::Down);
        self.lifeline = None;
        if !self.await_end(pid) {
            let pid = pid.unwrap_or_default();
            let what = format!("the lab has not ended; `kill -9 {pid}` ends it");
            return Err(LabError::Refused(Failure::other(what)));
        }
        self.place.clear();
        ended
    }

    /// Waits until the lock is free and the first process is gone. It gives the lock up before the kernel has ended the rest of its
    /// PID namespace, and ends itself only after that.
    fn await_end(&self, pid: Option<i32>) -> bool {
        let deadline = Instant::now() + END_PATIENCE;
        while self.place.is_up() || pid.is_some_and(lives) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// Whether a process is there and not a zombie: one that nobody has waited for holds nothing any more.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

impl Drop for Lab {
    fn drop(&mut self) {
        let pid = self.supervisor_pid();
        if self.lifeline.take().is_some() {
            self.await_end(pid);
            self.place.clear();
        }
    }
}

/// Starts the supervisor and hears what it says. The process that is waited for ends at once; the lab itself is its child.
fn supervise(
    vpc_lab: &Path,
    place: &LabPlace,
    order: &Order,
    tell: &mut dyn FnMut(&Progress),
) -> Result<(ChildStdin, Report), LabError> {
    let log = File::create(place.log()).map_err(system("open the lab's log"))?;
    let mut command = Command::new(vpc_lab);
    command.arg(supervisor::SUBCOMMAND).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut outer = command.spawn().map_err(system("start vpc-lab supervise"))?;
    let (Some(mut stdin), Some(stdout)) = (outer.stdin.take(), outer.stdout.take()) else {
        return Err(LabError::Start("no pipes to the supervisor".to_owned()));
    };
    let mut text = serde_json::to_string(order).map_err(|e| LabError::Start(e.to_string()))?;
    text.push('\n');
    stdin.write_all(text.as_bytes()).map_err(system("give the supervisor its order"))?;
    outer.wait().map_err(system("wait for vpc-lab supervise"))?;
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = String::new();
        stdout.read_line(&mut line).map_err(system("hear from the supervisor"))?;
        match serde_json::from_str(&line) {
            Ok(Report::Progress(progress)) => tell(&progress),
            Ok(last) => return Ok((stdin, last)),
            Err(_) => {
                let said = std::fs::read_to_string(place.log()).unwrap_or_default();
                let cause = format!("the supervisor ended without a word; its log says: {}", said.trim());
                return Ok((stdin, Report::Failed { cause }));
            }
        }
    }
}

/// `vpc-lab`: this program, or the one beside it.
fn own_program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    if own.file_stem().is_some_and(|name| name == "vpc-lab") {
        return Some(own);
    }
    own.ancestors().skip(1).take(2).map(|dir| dir.join("vpc-lab")).find(|path| path.is_file())
}

fn read_all(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
