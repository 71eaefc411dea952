//! A program's run, from its start to its end: time on the clock, time on a processor, what it said.

#![allow(unsafe_code, reason = "wait4 has no safe form, and no other call tells one child's processor time")]

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::libc;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    /// User and system time of the process itself. What the kernel does later on its behalf is in nobody's account.
    pub(crate) cpu: Duration,
}

impl Took {
    /// The run and what this process did beside it for the same purpose.
    pub(crate) fn and(self, wall: Duration, cpu: Duration) -> Self {
        Self { wall: self.wall + wall, cpu: self.cpu + cpu }
    }
}

/// Runs a program to its end with that standard input; gives its standard output. Anything but success is an error.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<(Took, Vec<u8>)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that needs no input may be gone before it is written.
        let _ = stdin.write_all(input);
    }
    let mut out = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut out)?;
    }
    let (status, cpu) = wait(child.id())?;
    let wall = begin.elapsed();
    ensure!(
        status == 0,
        "{} ended with status {status:#x}: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&out)
    );
    Ok((Took { wall, cpu }, out))
}

/// Waits for one child: its status as the system has it, and its processor time.
fn wait(pid: u32) -> Result<(i32, Duration)> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers lead to values that live through the call.
        let waited = unsafe { libc::wait4(pid.cast_signed(), &raw mut status, 0, &raw mut usage) };
        if waited >= 0 {
            return Ok((status, time(usage.ru_utime) + time(usage.ru_stime)));
        }
        let error = std::io::Error::last_os_error();
        ensure!(error.kind() == std::io::ErrorKind::Interrupted, "cannot wait for process {pid}: {error}");
    }
}

/// The calling thread's own processor time so far.
pub(crate) fn own_cpu() -> Duration {
    // SAFETY: an all-zero timespec is a valid one.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer leads to a value that lives through the call. The clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn time(of: libc::timeval) -> Duration {
    Duration::from_secs(of.tv_sec.unsigned_abs()) + Duration::from_micros(of.tv_usec.unsigned_abs())
}

/// The most memory a program had resident until it told its result, in bytes: it is held up at that by a pipe that is full, and the
/// kernel's account of it is read. (What `wait4` tells begins with the memory of the process that started it.)
pub(crate) fn peak_memory(command: &mut Command, input: &[u8]) -> Result<u64> {
    const PAGE: i32 = 4096;
    let (mut reader, mut writer) = std::io::pipe()?;
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PAGE))?;
    writer.write_all(&[b' '; PAGE as usize])?;
    command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // The command keeps its copy of the pipe's end until it gets another.
    command.stdout(Stdio::null());
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    let peak = settled_peak(child.id());
    let mut out = Vec::new();
    reader.read_to_end(&mut out)?;
    let status = child.wait()?;
    ensure!(status.success(), "it ended with {status}: {}", String::from_utf8_lossy(&out).trim());
    peak
}

/// The highest resident size, once it has been the same for a while.
fn settled_peak(pid: u32) -> Result<u64> {
    const SAME_FOR: usize = 20;
    const LOOKS: usize = 500;
    let (mut last, mut same) = (0, 0);
    for _ in 0..LOOKS {
        std::thread::sleep(Duration::from_millis(10));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now: u64 = match line.and_then(|line| line.split_whitespace().next()) {
            Some(kilobytes) => kilobytes.parse::<u64>()? * 1024,
            None => 0,
        };
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        if same == SAME_FOR {
            return Ok(now);
        }
    }
    anyhow::bail!("process {pid} does not come to rest")
}
