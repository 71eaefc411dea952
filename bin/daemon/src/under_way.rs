//! ADDs whose plugin is still at work, and those that have just ended.
//!
//! A plugin keeps its connection until it has wired the pod and told the runtime. A GC whose list was made meanwhile can not have the pod
//! on it, and must not take away what the plugin promises. (The specification has runtimes not do both at once; cron jobs and people do.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vpc_linux::monotonic_nanos;
use vpc_model::SandboxKey;
use vpc_wire::rpc::server::Caller;

/// For how long it is remembered when an ADD ended: a plugin waits less for its configuration and for the daemon.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long a GC waits to learn when a plugin went that has just gone: the server reads of it within microseconds.
const READING: Duration = Duration::from_millis(1);
/// How often.
const TIMES: u32 = 50;

/// Sandboxes with an ADD, and who asked.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<Mutex<BTreeMap<SandboxKey, Caller>>>);

impl UnderWay {
    /// An ADD came.
    pub(crate) fn began(&self, key: SandboxKey, caller: Caller) {
        let since = monotonic_nanos().unwrap_or(0).saturating_sub(REMEMBERED.as_nanos() as u64);
        self.with(|adds| {
            adds.retain(|_, caller| caller.was_there(since));
            adds.insert(key, caller);
        });
    }

    /// A DEL came: whatever ADD there was is over.
    pub(crate) fn ended(&self, key: &SandboxKey) {
        self.with(|adds| drop(adds.remove(key)));
    }

    /// Containers and interfaces of a network that were being wired at that moment of `CLOCK_MONOTONIC`, in nanoseconds, or have been
    /// since.
    pub(crate) async fn since(&self, at: u64, network: &str) -> BTreeSet<(String, String)> {
        for _ in 0..TIMES {
            if !self.with(|adds| adds.values().any(Caller::is_going)) {
                break;
            }
            tokio::time::sleep(READING).await;
        }
        self.with(|adds| {
            let own = adds.iter().filter(|(key, caller)| key.network == network && caller.was_there(at));
            own.map(|(key, _)| (key.container.clone(), key.interface.clone())).collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<SandboxKey, Caller>) -> T) -> T {
        // Nothing that is done here can leave half of it.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
