//! What was changed, in order and bounded: from here come watches, and lists as of an earlier version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::error::KubeError;

/// Where an object is stored: by kind, namespace and name, so that a kind lies together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One object before and after one change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// The latest changes.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    changes: VecDeque<Change>,
    length: usize,
    /// The latest version of the whole store.
    revision: u64,
    /// The oldest version from which everything later is known.
    floor: u64,
}

impl Log {
    /// A log of at most `length` changes.
    pub(crate) fn new(length: usize) -> Self {
        Self { changes: VecDeque::new(), length: length.max(1), revision: 1, floor: 1 }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The version the next change will have.
    pub(crate) fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    pub(crate) fn push(&mut self, key: Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        self.revision += 1;
        self.changes.push_back(Change { revision: self.revision, key, before, after });
        if self.changes.len() > self.length
            && let Some(dropped) = self.changes.pop_front()
        {
            self.floor = dropped.revision;
        }
    }

    /// Forgets all changes: every version but the latest expires.
    pub(crate) fn expire(&mut self) {
        self.changes.clear();
        self.floor = self.revision;
    }

    /// The changes after a version.
    ///
    /// # Errors
    /// The version has expired, or lies in the future.
    pub(crate) fn after(&self, revision: u64) -> Result<impl DoubleEndedIterator<Item = &Change>, KubeError> {
        if revision < self.floor {
            return Err(KubeError::Expired { asked: revision, oldest: self.floor });
        }
        if revision > self.revision {
            return Err(KubeError::TooLarge { asked: revision, current: self.revision });
        }
        let known = self.changes.partition_point(|change| change.revision <= revision);
        Ok(self.changes.range(known..))
    }

    /// Takes a collection of some kind back to what it was at a version.
    ///
    /// # Errors
    /// As [`Log::after`].
    pub(crate) fn roll_back(
        &self,
        kind: &str,
        revision: u64,
        objects: &mut BTreeMap<Key, Arc<Value>>,
    ) -> Result<(), KubeError> {
        for change in self.after(revision)?.rev().filter(|change| &*change.key.kind == kind) {
            match &change.before {
                Some(before) => _ = objects.insert(change.key.clone(), before.clone()),
                None => _ = objects.remove(&change.key),
            }
        }
        Ok(())
    }
}
