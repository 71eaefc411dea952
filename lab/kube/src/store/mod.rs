//! The store: objects, one version number for all of them, and what was changed. Pure: the caller says what time it is, and
//! the same calls with the same seed give the same objects, uids and versions.
//!
//! ```text
//!  create, update, patch, delete -> write.rs: metadata, versions, deletion --+--> commit: objects + log.rs
//!                                   rules.rs: what each kind is given and forbidden
//!  get, list                     -> here, rolled back by log.rs if an earlier version is asked for
//!  watch                         -> changes after a version, as the selection sees them
//! ```

mod log;
mod rules;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::convert;
use crate::error::KubeError;
use crate::object;
use crate::resource::{Definition, Registry, Resource};
use crate::selector::Selection;

use log::{Key, Log};
pub use write::{DeleteOptions, Deleted, Part};

/// How a store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where uids and generated names come from.
    pub seed: u64,
    /// Changes that are remembered; who asks for older ones gets `410 Gone`.
    pub log_length: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { seed: 0, log_length: 10_000 }
    }
}

/// All objects of a cluster.
#[derive(Clone, Debug)]
pub struct Store {
    registry: Registry,
    objects: BTreeMap<Key, Arc<Value>>,
    log: Log,
    dice: ChaCha8Rng,
}

/// Which state a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The latest.
    #[default]
    Latest,
    /// The latest, which must not be older than this version.
    NotOlderThan(u64),
    /// That of this version.
    Exactly(u64),
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Which objects.
    pub selection: Selection,
    /// Which state.
    pub at: At,
    /// So many at once; 0: all.
    pub limit: usize,
    /// Where the list goes on: [`List::next`] of the page before.
    pub from: Option<String>,
}

impl From<Selection> for ListOptions {
    fn from(selection: Selection) -> Self {
        Self { selection, ..Self::default() }
    }
}

/// Objects of one resource at one version, ordered by namespace and name.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// Version of the state that is shown.
    pub version: u64,
    /// The objects.
    pub items: Vec<Value>,
    /// With what the next page is asked for; `None`: this is the last.
    pub next: Option<String>,
    /// How many objects come after this page, if nothing but a namespace was selected.
    pub remaining: Option<usize>,
}

/// What happened to an object, as a watch tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is there now.
    Added,
    /// It has changed.
    Modified,
    /// It is gone, or no longer selected.
    Deleted,
    /// Nothing: the watch has come to the version that the object bears.
    Bookmark,
}

impl EventKind {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// The object afterwards; if it is gone, as it was, with the version of its end.
    pub object: Value,
}

impl Store {
    /// A store without any object.
    #[must_use]
    pub fn new(settings: StoreSettings) -> Self {
        Self {
            registry: Registry::default(),
            objects: BTreeMap::new(),
            log: Log::new(settings.log_length),
            dice: ChaCha8Rng::seed_from_u64(settings.seed),
        }
    }

    /// The latest version of the whole store.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.log.revision()
    }

    /// All resources that are served, in the order of their definition.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        self.registry.all()
    }

    /// What is known of a resource.
    ///
    /// # Errors
    /// There is no such resource.
    pub fn definition(&self, resource: &Resource) -> Result<&Definition, KubeError> {
        self.registry.find(resource).ok_or(KubeError::NoSuchResource)
    }

    /// Reads one object; `namespace` is empty for objects of the cluster.
    ///
    /// # Errors
    /// There is no such resource or object.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Value, KubeError> {
        let definition = self.definition(resource)?;
        let stored = self.stored(definition, namespace, name)?;
        Ok(present(definition, stored))
    }

    /// Lists objects.
    ///
    /// # Errors
    /// There is no such resource, or the state asked for has expired or lies in the future.
    pub fn list(&self, resource: &Resource, options: &ListOptions) -> Result<List, KubeError> {
        let definition = self.definition(resource)?;
        let kind = resource.storage();
        let (version, start) = self.page_start(options)?;
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.of_kind(&kind).map(|(key, value)| (key.clone(), value.clone())).collect();
        self.log.roll_back(&kind, version, &mut objects)?;

        let after_start =
            |key: &Key| start.as_ref().is_none_or(|start| (&key.namespace, &key.name) > (&start.0, &start.1));
        let mut selected = objects.iter().filter(|(key, stored)| after_start(key) && options.selection.matches(stored));
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let page: Vec<_> = selected.by_ref().take(limit).collect();
        let rest = selected.count();
        let last = page.last().filter(|_| rest > 0).map(|(key, _)| *key);
        Ok(List {
            version,
            items: page.iter().map(|(_, stored)| present(definition, stored)).collect(),
            next: last.map(|key| continue_token(version, key)),
            remaining: (rest > 0 && !options.selection.is_narrowed()).then_some(rest),
        })
    }

    /// How many objects there are of each resource (`leases.coordination.k8s.io`), those of which there are none left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.objects.keys().fold(BTreeMap::new(), |mut counts, key| {
            *counts.entry(key.kind.to_string()).or_default() += 1;
            counts
        })
    }

    /// What happened after a version, as the selection sees it, and the version it leads to.
    ///
    /// # Errors
    /// There is no such resource, or the version has expired or lies in the future.
    pub fn changes(
        &self,
        resource: &Resource,
        selection: &Selection,
        after: u64,
    ) -> Result<(Vec<WatchEvent>, u64), KubeError> {
        let definition = self.definition(resource)?;
        let kind = resource.storage();
        let changes = self.log.after(after)?.filter(|change| *change.key.kind == *kind);
        let seen = |state: &Option<Arc<Value>>| state.clone().filter(|state| selection.matches(state));
        let events = changes.filter_map(|change| {
            let (kind, stored) = match (seen(&change.before), seen(&change.after)) {
                (None, Some(after)) => (EventKind::Added, after),
                (Some(_), Some(after)) => (EventKind::Modified, after),
                (Some(before), None) => (EventKind::Deleted, before),
                (None, None) => return None,
            };
            let mut object = present(definition, &stored);
            object::set_metadata(&mut object, "resourceVersion", change.revision.to_string());
            Some(WatchEvent { kind, object })
        });
        Ok((events.collect(), self.log.revision()))
    }

    /// Forgets what was changed: every version but the latest expires, and watches that lag behind end with `410 Gone`.
    pub fn expire(&mut self) {
        self.log.expire();
    }

    // -- below: shared with the writing half ----------------------------------------------------------------------------

    fn stored(&self, definition: &Definition, namespace: &str, name: &str) -> Result<&Arc<Value>, KubeError> {
        let not_found = || KubeError::NotFound { resource: definition.resource.clone(), name: name.to_owned() };
        self.objects.get(&key(&definition.resource, namespace, name)).ok_or_else(not_found)
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let first = Key { kind: kind.into(), namespace: String::new(), name: String::new() };
        self.objects.range(first..).take_while(move |(key, _)| *key.kind == *kind)
    }

    /// Version and last object before the page.
    fn page_start(&self, options: &ListOptions) -> Result<(u64, Option<(String, String)>), KubeError> {
        if let Some(token) = &options.from {
            return read_continue_token(token).map(|(version, start)| (version, Some(start)));
        }
        let current = self.version();
        match options.at {
            At::NotOlderThan(asked) if asked > current => Err(KubeError::TooLarge { asked, current }),
            At::Latest | At::NotOlderThan(_) => Ok((current, None)),
            At::Exactly(version) => Ok((version, None)),
        }
    }

    /// A random uid in the form of RFC 4122, version 4.
    fn uid(&mut self) -> String {
        let (high, low) = (self.dice.next_u64(), self.dice.next_u64());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 48 & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }

    /// Five characters as Kubernetes appends them to generated names: no vowels, nothing that looks like another.
    fn suffix(&mut self) -> String {
        const CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut draw = self.dice.next_u64();
        let mut one = || {
            let length = CHARACTERS.len() as u64;
            let index = usize::try_from(draw % length).unwrap_or(0);
            draw /= length;
            char::from(CHARACTERS[index])
        };
        (0..5).map(|_| one()).collect()
    }
}

fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
    Key { kind: resource.storage().into(), namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A stored object as clients of a resource see it.
fn present(definition: &Definition, stored: &Value) -> Value {
    let mut object =
        if definition.resource == Resource::NEW_EVENTS { convert::event_from_core(stored) } else { stored.clone() };
    object["apiVersion"] = json!(definition.resource.api_version());
    object["kind"] = json!(definition.kind);
    object
}

fn continue_token(version: u64, last: &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!([version, last.namespace, last.name]).to_string())
}

fn read_continue_token(token: &str) -> Result<(u64, (String, String)), KubeError> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        serde_json::from_slice::<(u64, String, String)>(&bytes).ok()
    };
    let (version, namespace, name) =
        read().ok_or_else(|| KubeError::BadRequest("continue key is not valid: it is none of this server".into()))?;
    Ok((version, (namespace, name)))
}
