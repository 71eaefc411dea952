//! The frame of every plugin's program: what it is called with, what it says, how it ends.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::{CniError, Command, Environment, Invocation, Version, read_input};

/// How long a runtime may take to write its configuration and close its end.
const INPUT: Duration = Duration::from_secs(10);

/// A call that failed, and the configuration's version to say it in.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: CniError,
    /// [`Version::LATEST`] as long as none is known.
    pub version: Version,
}

impl From<CniError> for Failure {
    fn from(error: CniError) -> Self {
        Self { error, version: Version::LATEST }
    }
}

/// Answers VERSION and people who call the program by hand (`about` is its name and version); everything else is `answer`'s, with
/// standard input as it came. What that gives is written to standard output, the error in its stead if it fails.
pub fn run_program(about: &str, answer: impl FnOnce(Invocation, &[u8]) -> Result<String, Failure>) -> ExitCode {
    // A log that has reached a limit of file sizes (`ulimit -f`) is a write that fails, not the end of the program.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
    match Environment::read(|name| std::env::var_os(name)) {
        Ok(Environment::NotCalledByARuntime) => {
            let versions = Version::list(", ");
            // With standard error closed there is nobody to tell.
            let _ = write!(std::io::stderr(), "{about}\nCNI protocol versions supported: {versions}\n");
            ExitCode::SUCCESS
        }
        Ok(Environment::Called(invocation)) if invocation.command == Command::Version => say(&Version::reply()),
        Ok(Environment::Called(invocation)) => {
            let input = read_input(std::io::stdin(), INPUT).map_err(Failure::from);
            match input.and_then(|input| answer(invocation, &input)) {
                Ok(text) => say(&text),
                Err(failure) => fail(&failure),
            }
        }
        Err(error) => fail(&error.into()),
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(failure: &Failure) -> ExitCode {
    // Whether or not anyone still reads: the exit code says it too.
    let _ = std::io::stdout().write_all(failure.error.to_json(failure.version).as_bytes());
    ExitCode::FAILURE
}
