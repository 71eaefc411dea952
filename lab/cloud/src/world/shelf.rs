//! A map whose copies share what is the same in both: a copy costs nothing, a change the logarithm of the size.
//!
//! EC2 answers from worlds that have been ([`crate::Consistency`]), so every change is preceded by a copy of the whole world. With
//! ten thousand nodes nothing may be copied there that stays as it is.

use std::sync::Arc;

use imbl::OrdMap;

/// The map. Values lie apart from the tree, so that a change of one leaves its neighbours alone.
#[derive(Clone, Debug)]
pub(crate) struct Shelf<K: Ord, V>(OrdMap<K, Arc<V>>);

impl<K: Ord, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord + Clone, V: Clone> Shelf<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|value| &**value)
    }

    /// A value to change. It is copied if an older world has it too.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(Arc::make_mut)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, Arc::new(value));
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key).map(Arc::unwrap_or_clone)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.0.keys()
    }

    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.0.values().map(|value| &**value)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Shelf<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key, Arc::new(value))).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_as_it_was_and_shares_what_did_not_change() {
        let mut shelf: Shelf<u32, String> = (0..100).map(|n| (n, n.to_string())).collect();
        let before = shelf.clone();
        shelf.get_mut(&7).unwrap().push('!');
        assert_eq!(shelf.remove(&8).as_deref(), Some("8"));
        shelf.insert(100, "new".to_owned());
        let (was, is) = (before.values().cloned().collect::<Vec<_>>(), shelf.values().cloned().collect::<Vec<_>>());
        assert_eq!(was, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!((is.len(), is[7].as_str(), is[8].as_str(), is[99].as_str()), (100, "7!", "9", "new"));
        let same = |key| std::ptr::eq(before.get(&key).unwrap(), shelf.get(&key).unwrap());
        assert_eq!(before.keys().filter(|key| **key != 8 && !same(**key)).collect::<Vec<_>>(), [&7]);
    }
}
