//! What is kept of what is watched: a node's view, the ENIConfigs, the node's own pods. Nothing else of the cluster is ever here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use vpc_agent::{ClusterNews, EniConfig, NodeView};
use vpc_model::PodRef;

use crate::objects::{EniConfigObject, Node, Pod};

/// Keeps the objects of one watch.
pub(crate) trait Shelf {
    /// As much of an object as is looked at.
    type Object: DeserializeOwned;

    /// A list begins: what was kept is not true any more.
    fn clear(&mut self);
    /// It is there, like this.
    fn put(&mut self, object: Self::Object);
    /// It is gone.
    fn remove(&mut self, object: Self::Object);
    /// What there is to tell, if it differs from what was told last.
    fn news(&mut self) -> Option<ClusterNews>;
}

/// What events need to know of the objects they are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<Mutex<Uids>>);

#[derive(Debug, Default)]
struct Uids {
    node: String,
    /// With whether the pod wants an address.
    pods: BTreeMap<PodRef, (Box<str>, bool)>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Uids> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node_uid(&self) -> Option<String> {
        Some(self.lock().node.clone()).filter(|uid| !uid.is_empty())
    }

    pub(crate) fn pod_uid(&self, pod: &PodRef) -> Option<String> {
        self.lock().pods.get(pod).map(|(uid, _)| uid.to_string())
    }
}

/// Our node.
#[derive(Debug)]
pub(crate) struct NodeShelf {
    known: Known,
    view: Option<NodeView>,
    said: Option<NodeView>,
}

impl NodeShelf {
    pub(crate) fn new(known: Known) -> Self {
        Self { known, view: None, said: None }
    }
}

impl Shelf for NodeShelf {
    type Object = Node;

    fn clear(&mut self) {}

    fn put(&mut self, object: Node) {
        self.known.lock().node.clone_from(&object.metadata.uid);
        self.view = Some(object.view());
    }

    // A node object that is deleted under a running kubelet is registered again; until then the last word holds.
    fn remove(&mut self, _: Node) {}

    fn news(&mut self) -> Option<ClusterNews> {
        let view = self.view.take().filter(|view| self.said.as_ref() != Some(view))?;
        self.said = Some(view.clone());
        Some(ClusterNews::Node(view))
    }
}

/// All ENIConfigs.
#[derive(Debug, Default)]
pub(crate) struct EniConfigShelf {
    configs: BTreeMap<String, EniConfig>,
    said: Option<Vec<EniConfig>>,
}

impl Shelf for EniConfigShelf {
    type Object = EniConfigObject;

    fn clear(&mut self) {
        self.configs.clear();
    }

    fn put(&mut self, object: EniConfigObject) {
        self.configs.insert(object.name().to_owned(), object.view());
    }

    fn remove(&mut self, object: EniConfigObject) {
        self.configs.remove(object.name());
    }

    fn news(&mut self) -> Option<ClusterNews> {
        let configs: Vec<EniConfig> = self.configs.values().cloned().collect();
        if self.said.as_ref() == Some(&configs) {
            return None;
        }
        self.said = Some(configs.clone());
        Some(ClusterNews::EniConfigs(configs))
    }
}

/// The pods of our node.
#[derive(Debug)]
pub(crate) struct PodShelf {
    known: Known,
    changed: bool,
    ever_said: bool,
}

impl PodShelf {
    pub(crate) fn new(known: Known) -> Self {
        Self { known, changed: false, ever_said: false }
    }
}

impl Shelf for PodShelf {
    type Object = Pod;

    fn clear(&mut self) {
        self.known.lock().pods.clear();
        self.changed = true;
    }

    fn put(&mut self, object: Pod) {
        let wants = object.wants_address();
        let before = self.known.lock().pods.insert(object.reference(), (object.metadata.uid.into(), wants));
        self.changed |= before.map_or(wants, |(_, wanted)| wanted != wants);
    }

    fn remove(&mut self, object: Pod) {
        let before = self.known.lock().pods.remove(&object.reference());
        self.changed |= before.is_some_and(|(_, wanted)| wanted);
    }

    fn news(&mut self) -> Option<ClusterNews> {
        if !self.changed && self.ever_said {
            return None;
        }
        (self.changed, self.ever_said) = (false, true);
        let known = self.known.lock();
        let pods = known.pods.iter().filter(|(_, (_, wants))| *wants).map(|(pod, _)| pod.clone());
        Some(ClusterNews::Pods(pods.collect()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn put<S: Shelf>(shelf: &mut S, object: Value) {
        shelf.put(serde_json::from_value(object).unwrap());
    }

    #[test]
    fn a_node_is_told_only_when_it_differs() {
        let known = Known::default();
        let mut shelf = NodeShelf::new(known.clone());
        let node = |pods: &str, beat: u32| json!({"metadata": {"uid": "u1", "resourceVersion": beat.to_string()}, "status": {"capacity": {"pods": pods}}});
        put(&mut shelf, node("29", 1));
        assert!(matches!(shelf.news(), Some(ClusterNews::Node(NodeView { max_pods: Some(29), .. }))));
        put(&mut shelf, node("29", 2));
        assert_eq!(shelf.news(), None);
        put(&mut shelf, node("110", 3));
        assert!(shelf.news().is_some());
        assert_eq!(known.node_uid().as_deref(), Some("u1"));
    }

    #[test]
    fn pods_are_told_when_one_that_wants_an_address_comes_or_goes() {
        let known = Known::default();
        let mut shelf = PodShelf::new(known.clone());
        let pod = |name: &str, phase: &str| json!({"metadata": {"name": name, "namespace": "n", "uid": format!("u-{name}")}, "status": {"phase": phase}});
        let names = |news: Option<ClusterNews>| match news {
            Some(ClusterNews::Pods(pods)) => pods.into_iter().map(|pod| pod.name).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(names(shelf.news()), Vec::<String>::new(), "an empty list is news, too");
        put(&mut shelf, pod("b", "Pending"));
        put(&mut shelf, pod("a", "Pending"));
        put(&mut shelf, pod("done", "Succeeded"));
        assert_eq!(names(shelf.news()), ["a", "b"]);
        put(&mut shelf, pod("a", "Running"));
        assert_eq!(shelf.news(), None, "only its status changed");
        put(&mut shelf, pod("b", "Failed"));
        assert_eq!(names(shelf.news()), ["a"]);
        shelf.remove(serde_json::from_value(pod("b", "Failed")).unwrap());
        assert_eq!(shelf.news(), None);
        let a = PodRef { namespace: "n".into(), name: "a".into() };
        assert_eq!(known.pod_uid(&a).as_deref(), Some("u-a"));
        shelf.clear();
        assert_eq!(names(shelf.news()), Vec::<String>::new());
        assert_eq!(known.pod_uid(&a), None);
    }
}
