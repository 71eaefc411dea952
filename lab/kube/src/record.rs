//! What was asked of the Kubernetes API: a bounded ring of calls, oldest forgotten first.

use std::collections::VecDeque;

/// Calls remembered at most.
pub const CAPACITY: usize = 20_000;

/// One request and how it was answered. A watch is recorded when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KubeCall {
    /// Its number, from 1; calls that are forgotten keep theirs.
    pub number: u64,
    /// When it came in: milliseconds since the server started.
    pub at_ms: u64,
    /// How long the answer took, in microseconds.
    pub took_us: u64,
    /// Who called; `None`: nobody known.
    pub user: Option<String>,
    /// The program, as it calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths that are no
    /// resource, the method in small letters.
    pub verb: String,
    /// Resource as kubectl writes it, with a subresource after a slash: `pods`, `cninodes.vpcresources.k8s.aws`,
    /// `pods/status`; empty for paths that are no resource.
    pub resource: String,
    /// Namespace; empty: all, or of the cluster.
    pub namespace: String,
    /// Name of the object; empty: the collection.
    pub name: String,
    /// Path with its query.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Why it was refused (`Conflict`); `None`: it was not.
    pub reason: Option<String>,
}

/// Which calls one wants to see. Everything that is not set lets all calls pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubeCallFilter {
    /// Of one user.
    pub user: Option<String>,
    /// With this verb.
    pub verb: Option<String>,
    /// Of this resource (`pods`, `pods/status`).
    pub resource: Option<String>,
    /// With a number above this one: what came since the last look.
    pub after: u64,
    /// Only such as were refused.
    pub errors_only: bool,
}

impl KubeCallFilter {
    fn passes(&self, call: &KubeCall) -> bool {
        self.user.as_ref().is_none_or(|user| call.user.as_ref() == Some(user))
            && self.verb.as_ref().is_none_or(|verb| *verb == call.verb)
            && self.resource.as_ref().is_none_or(|resource| *resource == call.resource)
            && call.number > self.after
            && !(self.errors_only && call.status < 400)
    }
}

/// The calls that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    calls: VecDeque<KubeCall>,
    count: u64,
}

impl Ring {
    /// Remembers a call and gives it its number.
    pub(crate) fn push(&mut self, mut call: KubeCall) {
        self.count += 1;
        call.number = self.count;
        if self.calls.len() == CAPACITY {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// The calls that pass, oldest first.
    pub(crate) fn select(&self, filter: &KubeCallFilter) -> Vec<KubeCall> {
        self.calls.iter().filter(|call| filter.passes(call)).cloned().collect()
    }
}
