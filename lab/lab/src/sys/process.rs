//! Starting programs inside namespaces and waiting for them, with an end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, setsid};

use super::spaces::Spaces;

/// Where programs are looked for inside a node.
pub const PATH: &str = "/app:/opt/cni/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a session's leader leaves behind may take so long to end after SIGKILL.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// A program to start. Its environment is exactly what is given.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Path or name, and arguments.
    pub command: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Leads a session of its own, as the first process of a container does: [`end_session`] ends what it leaves behind.
    pub leads_session: bool,
}

/// Standard input, output and error of a program.
#[derive(Debug)]
pub struct Streams {
    /// stdin.
    pub input: Stdio,
    /// stdout.
    pub output: Stdio,
    /// stderr.
    pub errors: Stdio,
}

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Program {
    /// Starts it inside. The child is the supervisor's: it can be waited for from anywhere.
    ///
    /// # Errors
    /// `NotFound`: no such program in there; others as `execve(2)`.
    pub fn start(&self, inside: &Spaces, streams: Streams) -> io::Result<Child> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty command"));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.env);
        command.stdin(streams.input).stdout(streams.output).stderr(streams.errors);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        // A child inherits what its parent's thread blocks, and ours block the signals that end a daemon.
        // SAFETY: one system call between fork and exec; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
        if self.leads_session {
            // SAFETY: as above.
            unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
        }
        inside.run(move || command.spawn())?
    }

    /// Runs it to its end, with `input` on stdin. When the time is over it is killed.
    ///
    /// # Errors
    /// As [`Program::start`]; `TimedOut`.
    pub fn run(&self, inside: &Spaces, input: &[u8], at_most: Duration) -> io::Result<Finished> {
        let streams = Streams { input: Stdio::piped(), output: Stdio::piped(), errors: Stdio::piped() };
        let mut child = self.start(inside, streams)?;
        let finished = attend(&mut child, input, Instant::now() + at_most);
        if finished.is_err() {
            child.kill().ok();
            child.wait().ok();
        }
        finished
    }
}

/// A descriptor that becomes readable when the process ends.
///
/// # Errors
/// As `pidfd_open(2)`.
pub fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers; the descriptor it returns is owned by nobody else.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as libc::c_int)) }
    }
}

/// A process and everything that descends from it, by the numbers of this PID namespace.
#[must_use]
pub fn family(of: u32) -> BTreeSet<u32> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<_> = numbers.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = BTreeSet::from([of]);
    loop {
        let before = family.len();
        let children: Vec<_> =
            parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may contain anything: state, parent.
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Waits for the end of a process that leads a session, and then ends whatever else is in it, as the kernel does for a container
/// whose first process ends. Its number is free again only afterwards.
///
/// # Errors
/// As `wait(2)`.
pub fn end_session(leader: &mut Child) -> io::Result<ExitStatus> {
    let pid = i32::try_from(leader.id()).map_err(io::Error::other)?;
    while let Err(errno) = waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
        if errno != Errno::EINTR {
            return Err(errno.into());
        }
    }
    let deadline = Instant::now() + LAST_BREATH;
    loop {
        let left = session(pid);
        for pid in &left {
            kill(*pid, Signal::SIGKILL).ok();
        }
        if left.is_empty() || Instant::now() > deadline {
            return leader.wait();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of a session that live, without its leader.
fn session(leader: i32) -> Vec<Pid> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let member = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may contain anything: state, parent, process group, session.
        let fields: Vec<_> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace().collect();
        !matches!(fields.first(), Some(&("Z" | "X"))) && fields.get(3).and_then(|own| own.parse().ok()) == Some(leader)
    };
    numbers.filter(|pid| *pid != leader).filter(member).map(Pid::from_raw).collect()
}

/// Feeds and empties the pipes until the process has ended. What it wrote before its end is all there; a grandchild that keeps a
/// pipe open is not waited for.
fn attend(child: &mut Child, mut input: &[u8], deadline: Instant) -> io::Result<Finished> {
    let end = pidfd(child)?;
    let mut stdin = child.stdin.take().map(OwnedFd::from).map(File::from);
    let mut stdout = child.stdout.take().map(OwnedFd::from).map(File::from);
    let mut stderr = child.stderr.take().map(OwnedFd::from).map(File::from);
    for pipe in [&stdin, &stdout, &stderr].into_iter().flatten() {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    loop {
        if input.is_empty() {
            stdin = None;
        }
        let mut ended = false;
        wait_for_any(&end, stdin.as_ref(), [stdout.as_ref(), stderr.as_ref()], deadline, &mut ended)?;
        if let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(count) => input = input.get(count..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // It does not care for the rest.
                Err(_) => input = &[],
            }
        }
        drain(&mut stdout, &mut output)?;
        drain(&mut stderr, &mut errors)?;
        if ended {
            return Ok(Finished { status: child.wait()?, stdout: output, stderr: errors });
        }
    }
}

fn wait_for_any(
    end: &OwnedFd,
    stdin: Option<&File>,
    outputs: [Option<&File>; 2],
    deadline: Instant,
    ended: &mut bool,
) -> io::Result<()> {
    let left = deadline.checked_duration_since(Instant::now());
    let left = left.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "it did not end in time and was killed"))?;
    let mut fds = vec![PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    fds.extend(stdin.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    fds.extend(outputs.into_iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    // One millisecond more, so as not to spin at the very end.
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    *ended = fds.first().and_then(PollFd::any) == Some(true);
    Ok(())
}

/// Reads all there is; a pipe that was closed is forgotten.
fn drain(pipe: &mut Option<File>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(file) = pipe else { return Ok(()) };
    match file.read_to_end(into) {
        Ok(_) => *pipe = None,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Waits for the end of a child or until `other` hangs up, whichever comes first. `None`: the other side has gone.
///
/// # Errors
/// As `poll(2)` and `wait(2)`.
pub fn wait_or_hangup(child: &mut Child, other: impl AsFd) -> io::Result<Option<ExitStatus>> {
    let end = pidfd(child)?;
    loop {
        let mut fds = [PollFd::new(end.as_fd(), PollFlags::POLLIN), PollFd::new(other.as_fd(), PollFlags::POLLHUP)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [ended, gone] = fds.each_ref().map(|fd| fd.any() == Some(true));
        if ended {
            return child.wait().map(Some);
        }
        if gone {
            return Ok(None);
        }
    }
}

/// Whether the other end of a connection has been closed.
#[must_use]
pub fn hung_up(connection: impl AsFd) -> bool {
    let mut fds = [PollFd::new(connection.as_fd(), PollFlags::POLLHUP)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Waits for the end of a child; when the time is over it is killed.
///
/// # Errors
/// `TimedOut`; others as `wait(2)`.
pub fn wait_within(child: &mut Child, at_most: Duration) -> io::Result<ExitStatus> {
    let end = pidfd(child)?;
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(_) => {
            child.kill().ok();
            child.wait().ok();
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("did not end within {} s and was killed", at_most.as_secs()),
            ))
        }
        Ok(_) => child.wait(),
    }
}
