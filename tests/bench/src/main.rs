//! What a CNI plugin costs: it is called as a container runtime calls it, beside other plugins and beside the bare kernel, in turns.
//!
//! ```text
//!   plugin-bench measure PLAN    every group of figures of the plan (JSON, `plan.rs`); figures in JSON
//!   plugin-bench once ROUNDS PLUGIN WRAPPER...   ADD and DEL of one pod, the plugin run by a wrapper (strace, valgrind)
//!   plugin-bench stub            a daemon that answers from memory: no cloud, no checkpoint
//! ```
//!
//! With the stub daemon all of it happens in namespaces made here, which end with this process: users (unless root), mounts with a
//! `/run` of their own, and for each contestant a network of its own. With a daemon that is there already it happens where that is.

mod bare;
mod contest;
mod growth;
mod node;
mod once;
mod plan;
mod pod;
mod run;
mod stub;

use anyhow::{Result, bail};

use crate::plan::Plan;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["stub"] => stub::serve(),
        ["measure", plan] => contest::measure(&Plan::parse(plan)?),
        ["once", rounds, plugin, wrapper @ ..] => once::run(rounds.parse()?, plugin, wrapper),
        _ => bail!("plugin-bench measure PLAN | once ROUNDS PLUGIN WRAPPER... | stub"),
    }
}
