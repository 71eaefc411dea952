//! `aws-k8s-agent`: see the library of the same name.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use aws_k8s_agent::failpoint::Point;
use aws_k8s_agent::settings::{self, Checked, Env, LogTo};
use aws_k8s_agent::{listing, logging, run};
use clap::Parser;
use vpc_wire::rpc::DAEMON_SOCKET;

/// The node daemon (ipamd): holds the address pool of one node. Its settings are environment variables.
#[derive(Parser)]
#[command(name = "aws-k8s-agent", version)]
struct Arguments {
    /// Print what the settings come to, with everything that is wrong, and exit: 0 if all is well, 1 if the node would not be
    /// exactly what the environment says.
    #[arg(long)]
    check_config: bool,
    /// Print the table of all settings as Markdown and exit.
    #[arg(long, conflicts_with = "check_config")]
    list_settings: bool,
    /// The unix socket to listen on. The plugin dials the default.
    #[arg(long, value_name = "PATH", default_value = DAEMON_SOCKET)]
    socket: PathBuf,
}

fn main() -> ExitCode {
    if Point::listed() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    if arguments.list_settings {
        return print(&listing::markdown(), ExitCode::SUCCESS);
    }
    let env = environment();
    let file = match settings::file::of(&env) {
        Ok(file) => file,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let checked = settings::check_with(&env, &file);
    if arguments.check_config {
        let verdict = if checked.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        return print(&listing::report(&checked), verdict);
    }
    if let Err(error) = logging::start(&checked.settings.log) {
        complain(&format!("logging can not be started: {error}"));
    }
    tell_findings(&checked);
    if !checked.may_start() {
        complain("aws-k8s-agent does not start with these settings; `--check-config` lists them all");
        return ExitCode::FAILURE;
    }
    serve(checked, env, arguments.socket)
}

fn serve(checked: Checked, env: Env, socket: PathBuf) -> ExitCode {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = checked.settings.kubernetes.node_name,
        "aws-k8s-agent starts"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        // A task among tasks: the runtime looks for new events each time it comes to the future it blocks on.
        let ended = runtime.block_on(async { tokio::spawn(run(checked, env, socket)).await? });
        // A call to the cloud that does not come back must not hold up the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => {
            tracing::info!("aws-k8s-agent has ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("aws-k8s-agent ends: {error:#}");
            complain(&format!("aws-k8s-agent ends: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A name or value that is not UTF-8 is shown with replacement characters: it is a bad value like others.
fn environment() -> Env {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Into the log, by their weight; what is bad also to standard error, where `kubectl logs` finds it.
fn tell_findings(checked: &settings::Checked) {
    let log_is_stderr = checked.settings.log.to == LogTo::Stderr;
    for finding in &checked.findings {
        finding.log();
        if finding.is_bad() && !log_is_stderr {
            complain(&finding.to_string());
        }
    }
}

/// Last words go to standard error; if that is closed there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn print(text: &str, verdict: ExitCode) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => verdict,
        Err(_) => ExitCode::FAILURE,
    }
}
