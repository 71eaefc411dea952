//! ADDs whose plugin is still at work.
//!
//! A plugin keeps its connection until it has wired the pod and told the runtime. A GC that comes meanwhile can not have the pod on its
//! list, and must not take away what the plugin is about to promise. (The specification has runtimes not do both at once; cron jobs and
//! people do.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use vpc_model::SandboxKey;
use vpc_wire::rpc::server::Caller;

/// Sandboxes with an ADD that was answered, and who asked.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<Mutex<BTreeMap<SandboxKey, Caller>>>);

impl UnderWay {
    /// An ADD came.
    pub(crate) fn began(&self, key: SandboxKey, caller: Caller) {
        self.with(|adds| {
            adds.retain(|_, caller| !caller.is_over());
            adds.insert(key, caller);
        });
    }

    /// A DEL came: whatever ADD there was is over.
    pub(crate) fn ended(&self, key: &SandboxKey) {
        self.with(|adds| drop(adds.remove(key)));
    }

    /// Containers and interfaces of a network that are just being wired.
    pub(crate) fn of(&self, network: &str) -> BTreeSet<(String, String)> {
        self.with(|adds| {
            let own = adds.iter().filter(|(key, caller)| key.network == network && caller.is_there());
            own.map(|(key, _)| (key.container.clone(), key.interface.clone())).collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<SandboxKey, Caller>) -> T) -> T {
        // Nothing that is done here can leave half of it.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
