//! Failpoints that do something.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::order::{Action, NoOrder, Order, as_error};

/// The variable with an order for one process: `NAME[:N[+]]=ACTION`, or `list`.
pub const ENVIRONMENT: &str = "VPC_CNI_FAILPOINT";
/// The folder of orders: a folder for each program, in it a file for each order, named as the failpoint.
pub const FOLDER: &str = "/run/vpc-cni-failpoints";
/// Is in every program that has failpoints, and in no other.
pub const MARK: &str = "failpoints are built into this program";
/// Exit code of a program that got an order it does not understand.
const NO_ORDER: i32 = 70;

static REACHED: Mutex<BTreeMap<&'static str, Reached>> = Mutex::new(BTreeMap::new());

/// The program is at a failpoint: carries out what is ordered for it.
///
/// # Errors
/// The one that is ordered.
pub fn reach(program: &'static str, point: impl FnOnce() -> &'static str) -> io::Result<()> {
    let point = point();
    let Some(action) = order(program, point) else { return Ok(()) };
    match action {
        Action::Kill => die(),
        Action::KillAfter(span) => {
            thread::spawn(move || {
                thread::sleep(span);
                die();
            });
        }
        Action::Error(errno) => return Err(as_error(errno)),
        Action::Wait(span) => thread::sleep(span),
        Action::Clock(_) => {}
    }
    Ok(())
}

/// Seconds a clock is off by.
pub fn clock_is_off_by(program: &'static str, point: impl FnOnce() -> &'static str) -> i64 {
    match order(program, point()) {
        Some(Action::Clock(seconds)) => seconds,
        _ => 0,
    }
}

/// Prints names of failpoints if the environment asks for them; says whether it did.
pub fn list(names: impl FnOnce() -> &'static [&'static str]) -> bool {
    let asked = std::env::var_os(ENVIRONMENT).is_some_and(|value| value == "list");
    if asked {
        let text: String = names().iter().map(|name| format!("{name}\n")).collect();
        let told = io::stdout().write_all(text.as_bytes()).and_then(|()| writeln!(io::stderr(), "{MARK}"));
        // Who asked and has closed the pipe does not want to know.
        drop(told);
    }
    asked
}

/// How often a place was reached in this process: in all, and since the order was given that lies there.
#[derive(Default)]
struct Reached {
    ever: u64,
    order: Option<Given>,
    since: u64,
}

/// What tells one order in a file from the next.
type Given = (u64, i64, i64);

/// What is ordered for this time.
fn order(program: &str, point: &'static str) -> Option<Action> {
    let folder = Path::new(FOLDER);
    let file = folder.join(program).join(point);
    let given = fs::metadata(&file).ok().map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec()));
    let (ever, since) = {
        let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = reached.entry(point).or_default();
        if reached.order != given {
            (reached.order, reached.since) = (given, 0);
        }
        reached.ever += 1;
        reached.since += 1;
        (reached.ever, reached.since)
    };
    if ever == 1 {
        note(&folder.join(format!("{program}.reached")), point);
    }
    of_environment(point, ever).or_else(|| given.and_then(|_| of_file(&file, since)))
}

/// Whoever wants to know has made the file.
fn note(path: &Path, point: &str) {
    if let Ok(mut file) = OpenOptions::new().append(true).open(path) {
        // One write, so that processes do not write into one another's lines.
        let _ = file.write_all(format!("{point}\n").as_bytes());
    }
}

fn of_environment(point: &str, time: u64) -> Option<Action> {
    let value = std::env::var(ENVIRONMENT).ok()?;
    let (place, action) = value.split_once('=')?;
    let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
    let order = (name == point).then(|| understand(format!("{nth}={action}").parse()))?;
    order.holds_at(time).then_some(order.action)
}

fn of_file(path: &Path, time: u64) -> Option<Action> {
    let text = fs::read_to_string(path).ok()?;
    let order = understand(text.parse());
    // Of several processes the one that takes the file away carries the order out.
    let taken = order.holds_at(time) && (order.on || fs::remove_file(path).is_ok());
    taken.then_some(order.action)
}

/// A test that misspells its order must not pass.
fn understand(order: Result<Order, NoOrder>) -> Order {
    order.unwrap_or_else(|NoOrder(why)| {
        let _ = writeln!(io::stderr(), "{why}");
        std::process::exit(NO_ORDER)
    })
}

/// As if killed from outside: nothing of the process runs any more.
fn die() -> ! {
    // The first process of a PID namespace does not hear its own signal: abort() ends it too.
    if kill(Pid::this(), Signal::SIGKILL).is_ok() {
        thread::sleep(Duration::from_millis(200));
    }
    std::process::abort()
}
