//! What tests and benches run inside a node of the lab, where nothing of ours but the daemon and the plugin is.
//!
//! ```text
//!   node-probe observe               the host's network as the kernel has it, in JSON
//!   node-probe pods AT-ONCE ROUNDS   so many pods at a time come and go, called for as a container runtime does; times in JSON
//!   node-probe bare AT-ONCE ROUNDS   the same without plugin and daemon: an empty process, a bare veth pair; times in JSON
//!   node-probe conflist              waits until the conflist is there anew, and says when
//!   node-probe rpc PODS ROUNDS       the daemon alone, at so many pods: times of AddNetwork and of a control, memory; in JSON
//!   node-probe burst FIRST PODS keep|drop  so many AddNetwork at the same moment; times and failures in JSON
//!   node-probe memory                the daemon's memory in JSON
//!   node-probe nothing               nothing
//! ```

mod bare;
mod rpc;
mod runtime;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use vpc_linux::LinuxHost;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["nothing"] => Ok(()),
        ["observe"] => observe(),
        ["conflist"] => conflist(),
        ["pods", at_once, rounds] => runtime::pods(at_once.parse()?, rounds.parse()?),
        ["bare", at_once, rounds] => bare::pairs(at_once.parse()?, rounds.parse()?),
        ["rpc", pods, rounds] => rpc::measure(pods.parse()?, rounds.parse()?),
        ["burst", first, pods, after @ ("keep" | "drop")] => {
            rpc::burst(first.parse()?, pods.parse()?, *after == "keep")
        }
        ["memory"] => rpc::print_memory(),
        _ => bail!(
            "node-probe observe | conflist | nothing | memory | pods AT-ONCE ROUNDS | bare AT-ONCE ROUNDS | rpc PODS ROUNDS \
             | burst FIRST PODS keep|drop"
        ),
    }
}

fn observe() -> Result<()> {
    let state = LinuxHost::open()?.observe()?;
    println!("{}", serde_json::to_string(&state)?);
    Ok(())
}

/// Removes the conflist, says so, and prints the moment (milliseconds since 1970) at which the daemon has written it again.
fn conflist() -> Result<()> {
    let path = Path::new(runtime::CONFLIST);
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    println!("{}", json!({ "removed": true }));
    let end = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        ensure!(Instant::now() < end, "{} is not there after a minute", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{}", json!({ "written_ms": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3 }));
    Ok(())
}
