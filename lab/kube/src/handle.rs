//! The running API: the store behind a mutex that is never held across an `.await`, real time, and the switches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::watch;
use vpc_model::WallTime;

use crate::access::{Access, Attributes, Denial, PolicyRule, User};
use crate::bootstrap;
use crate::error::KubeError;
use crate::object;
use crate::patch::Patch;
use crate::record::{KubeCall, KubeCallFilter, Ring};
use crate::resource::{Definition, Resource};
use crate::selector::Selection;
use crate::store::{DeleteOptions, Deleted, EventKind, List, ListOptions, Part, Store, StoreSettings, WatchEvent};
use crate::token::{Holder, ISSUER, Tokens};

/// How long an administrator's token is valid.
const ADMIN_TOKEN: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a service account's token is valid.
pub(crate) const ACCOUNT_TOKEN: Duration = Duration::from_secs(365 * 86_400);

/// How the API behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeSettings {
    /// The store.
    pub store: StoreSettings,
    /// How often a watch that wants bookmarks gets one.
    pub bookmark_every: Duration,
}

impl Default for KubeSettings {
    fn default() -> Self {
        Self { store: StoreSettings::default(), bookmark_every: Duration::from_secs(60) }
    }
}

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No key for tokens.
    #[error("the system has no randomness to make the key of the tokens from")]
    NoRandomness,
    /// The first objects could not be made.
    #[error("the first objects of the cluster could not be made")]
    FirstObjects(#[source] Box<KubeError>),
}

/// The running API: read and change objects in it, watch them, look at its calls, throw its switches. Cheap to clone. Whoever
/// holds it may do everything; the switches are for those who come over the network.
#[derive(Clone, Debug)]
pub struct KubeHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The store's version; whoever watches waits for it.
    version: watch::Sender<u64>,
    away: watch::Sender<bool>,
    tokens: Tokens,
    settings: KubeSettings,
    started: Instant,
}

#[derive(Debug)]
struct State {
    store: Store,
    access: Access,
    ring: Ring,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchFrom {
    /// With an `ADDED` event for each object there is, then what happens from now on.
    #[default]
    State,
    /// As [`WatchFrom::State`]; a bookmark with the annotation `k8s.io/initial-events-end` stands between.
    StateThenBookmark,
    /// With what happens from now on.
    Now,
    /// With what happened after a version.
    Version(u64),
}

/// What happens to objects of one resource, event after event.
#[derive(Debug)]
pub struct Watch {
    handle: KubeHandle,
    resource: Resource,
    selection: Selection,
    version: u64,
    pending: VecDeque<WatchEvent>,
    changed: watch::Receiver<u64>,
}

impl KubeHandle {
    /// Starts an API with the namespaces `default`, `kube-system`, `kube-public` and `kube-node-lease` and the custom
    /// resources of Amazon's CNI.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn start(settings: KubeSettings) -> Result<Self, StartError> {
        let mut store = Store::new(settings.store);
        bootstrap::first_objects(&mut store, wall_now()).map_err(|error| StartError::FirstObjects(Box::new(error)))?;
        let version = store.version();
        let state = State { store, access: Access::default(), ring: Ring::default() };
        let shared = Shared {
            state: Mutex::new(state),
            version: watch::Sender::new(version),
            away: watch::Sender::new(false),
            tokens: Tokens::new().ok_or(StartError::NoRandomness)?,
            settings,
            started: Instant::now(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    // -- objects ---------------------------------------------------------------------------------------------------------

    /// Reads one object; `namespace` is empty for objects of the cluster.
    ///
    /// # Errors
    /// See [`Store::get`].
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Value, KubeError> {
        self.read(|store| store.get(resource, namespace, name))
    }

    /// Lists objects.
    ///
    /// # Errors
    /// See [`Store::list`].
    pub fn list(&self, resource: &Resource, options: &ListOptions) -> Result<List, KubeError> {
        self.read(|store| store.list(resource, options))
    }

    /// Watches objects.
    ///
    /// # Errors
    /// There is no such resource, or the version has expired.
    pub fn watch(&self, resource: &Resource, selection: Selection, from: WatchFrom) -> Result<Watch, KubeError> {
        let changed = self.shared.version.subscribe();
        let mut watch = Watch {
            handle: self.clone(),
            resource: resource.clone(),
            selection,
            version: 0,
            pending: VecDeque::new(),
            changed,
        };
        self.read(|store| watch.begin(store, from))?;
        Ok(watch)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// See [`Store::create`].
    pub fn create(&self, resource: &Resource, namespace: &str, object: Value) -> Result<Value, KubeError> {
        self.write(|store, now| store.create(now, resource, namespace, object))
    }

    /// Replaces an object but for its status, or its status alone.
    ///
    /// # Errors
    /// See [`Store::update`].
    pub fn update(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        object: Value,
        part: Part,
    ) -> Result<Value, KubeError> {
        self.write(|store, now| store.update(now, resource, namespace, name, object, part))
    }

    /// Patches an object but for its status, or its status alone.
    ///
    /// # Errors
    /// See [`Store::patch`].
    pub fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Patch,
        part: Part,
    ) -> Result<Value, KubeError> {
        self.write(|store, _| store.patch(resource, namespace, name, patch, part))
    }

    /// Deletes an object. What the kubelet does when a pod has ended: `grace_seconds: Some(0)`.
    ///
    /// # Errors
    /// See [`Store::delete`].
    pub fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, KubeError> {
        self.write(|store, now| store.delete(now, resource, namespace, name, options))
    }

    /// Puts a pod on a node.
    ///
    /// # Errors
    /// See [`Store::bind`].
    pub fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<(), KubeError> {
        self.write(|store, _| store.bind(namespace, pod, node))
    }

    /// The kind of that name, as manifests name it (`apps/v1`, `DaemonSet`).
    #[must_use]
    pub fn definition_of(&self, api_version: &str, kind: &str) -> Option<Definition> {
        self.read(|store| {
            let known =
                |definition: &&Definition| definition.kind == kind && definition.resource.api_version() == api_version;
            store.definitions().iter().find(known).cloned()
        })
    }

    // -- tokens ----------------------------------------------------------------------------------------------------------

    /// A token of a service account, valid for a year, as long as the account exists.
    ///
    /// # Errors
    /// There is no such service account.
    pub fn token(&self, namespace: &str, name: &str) -> Result<String, KubeError> {
        self.account_token(namespace, name, &[], ACCOUNT_TOKEN).map(|(token, _)| token)
    }

    /// A token of somebody who is no service account, valid for ten years.
    #[must_use]
    pub fn user_token(&self, user: &User) -> String {
        let (now, lasts) = (self.seconds(), i64::try_from(ADMIN_TOKEN.as_secs()).unwrap_or(i64::MAX));
        self.shared.tokens.issue(&Holder::User(user.clone()), &[ISSUER.to_owned()], now, now.saturating_add(lasts))
    }

    // -- switches --------------------------------------------------------------------------------------------------------

    /// Takes the API server away: its connections are cut and new ones refused, until it is called back.
    pub fn set_away(&self, away: bool) {
        self.shared.away.send_replace(away);
    }

    /// Whether the API server is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        *self.shared.away.borrow()
    }

    /// Refuses something to somebody from now on. Watches that are open go on.
    pub fn deny(&self, denial: Denial) {
        let mut state = self.shared.lock();
        if !state.access.denials.contains(&denial) {
            state.access.denials.push(denial);
        }
    }

    /// Lifts a denial; `false`: there was no such denial.
    pub fn allow(&self, denial: &Denial) -> bool {
        let mut state = self.shared.lock();
        let before = state.access.denials.len();
        state.access.denials.retain(|known| known != denial);
        state.access.denials.len() < before
    }

    /// The denials in force.
    #[must_use]
    pub fn denials(&self) -> Vec<Denial> {
        self.shared.lock().access.denials.clone()
    }

    /// Lets a user do only what some rule allows, as a ClusterRole does; `None`: everything again.
    pub fn restrict(&self, user: &str, rules: Option<Vec<PolicyRule>>) {
        let mut state = self.shared.lock();
        state.access.restricted.retain(|(known, _)| known != user);
        state.access.restricted.extend(rules.map(|rules| (user.to_owned(), rules)));
    }

    /// Makes every version but the latest expire: whoever lags behind gets `410 Gone`.
    pub fn expire_versions(&self) {
        self.shared.lock().store.expire();
    }

    /// How many objects there are of each resource (`pods`), those of which there are none left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.read(Store::counts)
    }

    /// The calls that pass a filter, oldest first.
    #[must_use]
    pub fn calls(&self, filter: &KubeCallFilter) -> Vec<KubeCall> {
        self.shared.lock().ring.select(filter)
    }

    // -- below: used by the server ---------------------------------------------------------------------------------------

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.shared.lock().store)
    }

    /// Makes a change, and tells those who watch.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Store, WallTime) -> T) -> T {
        let (result, version) = {
            let mut state = self.shared.lock();
            let result = change(&mut state.store, wall_now());
            (result, state.store.version())
        };
        self.shared.version.send_if_modified(|known| {
            let newer = version > *known;
            *known = version.max(*known);
            newer
        });
        result
    }

    /// What a change would give, without making it.
    pub(crate) fn rehearse<T>(&self, change: impl FnOnce(&mut Store, WallTime) -> T) -> T {
        let mut copy = self.read(Store::clone);
        change(&mut copy, wall_now())
    }

    pub(crate) fn check(&self, asked: &Attributes<'_>) -> Result<(), KubeError> {
        self.shared.lock().access.check(asked)
    }

    pub(crate) fn may(&self, asked: &Attributes<'_>) -> bool {
        self.shared.lock().access.allows(asked)
    }

    /// The rules a user is restricted to; `None`: he is not.
    pub(crate) fn rules_of(&self, user: &str) -> Option<Vec<PolicyRule>> {
        let state = self.shared.lock();
        state.access.restricted.iter().find(|(known, _)| known == user).map(|(_, rules)| rules.clone())
    }

    /// Whose token it is.
    pub(crate) fn identify(&self, token: &str) -> Option<User> {
        match self.shared.tokens.read(token, self.seconds())? {
            Holder::User(user) => Some(user),
            Holder::ServiceAccount { namespace, name, uid } => {
                let account = self.get(&Resource::SERVICE_ACCOUNTS, &namespace, &name).ok()?;
                (object::text(&account, "/metadata/uid") == uid).then(|| User::service_account(&namespace, &name))
            }
        }
    }

    /// A token and when it expires.
    pub(crate) fn account_token(
        &self,
        namespace: &str,
        name: &str,
        audiences: &[String],
        lasts: Duration,
    ) -> Result<(String, String), KubeError> {
        let account = self.get(&Resource::SERVICE_ACCOUNTS, namespace, name)?;
        let uid = object::text(&account, "/metadata/uid").to_owned();
        let holder = Holder::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned(), uid };
        let own = [ISSUER.to_owned()];
        let audiences = if audiences.is_empty() { &own } else { audiences };
        let now = self.seconds();
        let expires = now.saturating_add(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX));
        let token = self.shared.tokens.issue(&holder, audiences, now, expires);
        Ok((token, object::timestamp(WallTime(expires.saturating_mul(1_000_000_000)))))
    }

    pub(crate) fn record(&self, call: KubeCall) {
        self.shared.lock().ring.push(call);
    }

    pub(crate) fn away(&self) -> watch::Receiver<bool> {
        self.shared.away.subscribe()
    }

    pub(crate) fn settings(&self) -> &KubeSettings {
        &self.shared.settings
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> i64 {
        wall_now().0.div_euclid(1_000_000_000)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// The next event. May be dropped while it waits without losing one.
    ///
    /// # Errors
    /// The watch has fallen too far behind ([`KubeError::Expired`]), or the resource is gone. It gives nothing more then.
    pub async fn next(&mut self) -> Result<WatchEvent, KubeError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            self.changed.borrow_and_update();
            let (events, version) =
                self.handle.read(|store| store.changes(&self.resource, &self.selection, self.version))?;
            self.pending.extend(events);
            self.version = version;
            // The handle in this watch holds the other end: it does not end before.
            if self.pending.is_empty() && self.changed.changed().await.is_err() {
                return Err(KubeError::NoSuchResource);
            }
        }
    }

    /// An event that says how far the watch has come; `None`: there are events before it.
    #[must_use]
    pub fn bookmark(&self) -> Option<WatchEvent> {
        self.pending.is_empty().then(|| self.handle.read(|store| bookmark(store, &self.resource, self.version)))
    }

    fn begin(&mut self, store: &Store, from: WatchFrom) -> Result<(), KubeError> {
        self.version = store.version();
        match from {
            WatchFrom::Now => {
                store.definition(&self.resource)?;
            }
            WatchFrom::Version(version) => {
                let (events, now) = store.changes(&self.resource, &self.selection, version)?;
                self.pending.extend(events);
                self.version = now;
            }
            WatchFrom::State | WatchFrom::StateThenBookmark => {
                let list = store.list(&self.resource, &self.selection.clone().into())?;
                let added = |object| WatchEvent { kind: EventKind::Added, object };
                self.pending.extend(list.items.into_iter().map(added));
                if from == WatchFrom::StateThenBookmark {
                    let mut event = bookmark(store, &self.resource, list.version);
                    event.object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                    self.pending.push_back(event);
                }
            }
        }
        Ok(())
    }
}

fn bookmark(store: &Store, resource: &Resource, version: u64) -> WatchEvent {
    let kind = store.definition(resource).map(|definition| definition.kind.clone()).unwrap_or_default();
    let object = json!({
        "kind": kind, "apiVersion": resource.api_version(),
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
    });
    WatchEvent { kind: EventKind::Bookmark, object }
}

fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
