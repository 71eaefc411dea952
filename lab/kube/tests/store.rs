//! The store alone: versions, conflicts, deletion, and watches that give exactly the state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use lab_kube::{
    At, DeleteOptions, EventKind, KubeError, ListOptions, Part, Patch, Resource, Selection, Store, StoreSettings,
    object,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use vpc_model::WallTime;

const NOW: WallTime = WallTime(1_767_225_600_000_000_000);
const NOW_TEXT: &str = "2026-01-01T00:00:00Z";

fn store(log_length: usize) -> Store {
    let mut store = Store::new(StoreSettings { seed: 7, log_length });
    for name in ["default", "other"] {
        store.create(NOW, &Resource::NAMESPACES, "", json!({"metadata": {"name": name}})).unwrap();
    }
    store
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x"}]}})
}

fn create(store: &mut Store, resource: &Resource, object: Value) -> Value {
    store.create(NOW, resource, "default", object).unwrap()
}

fn delete(store: &mut Store, resource: &Resource, name: &str, grace_seconds: Option<u64>) -> bool {
    let options = DeleteOptions { grace_seconds, ..DeleteOptions::default() };
    store.delete(NOW, resource, "default", name, &options).unwrap().gone
}

#[test]
fn the_server_writes_the_metadata_that_is_its_own() {
    let mut store = store(100);
    let before = store.version();
    let mut sent = pod("a", "n1");
    sent["metadata"]["uid"] = json!("mine");
    sent["metadata"]["managedFields"] = json!([{}]);
    sent["status"] = json!({"phase": "Running"});
    let made = create(&mut store, &Resource::PODS, sent);
    assert_eq!(object::resource_version(&made), Some(before + 1));
    let metadata = &made["metadata"];
    assert_eq!((&metadata["creationTimestamp"], &metadata["namespace"]), (&json!(NOW_TEXT), &json!("default")));
    assert_ne!(metadata["uid"], "mine");
    assert_eq!(metadata.get("managedFields"), None);
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));

    // The same calls give the same objects.
    let again = create(&mut self::store(100), &Resource::PODS, pod("a", "n1"));
    assert_eq!(again["metadata"]["uid"], metadata["uid"]);
    let generated = create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"generateName": "map-"}}));
    assert!(object::name(&generated).starts_with("map-") && object::name(&generated).len() == 9);
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_field() {
    let mut store = store(100);
    let mut refused = |resource: &Resource, namespace: &str, object: Value| {
        let error = store.create(NOW, resource, namespace, object).unwrap_err();
        (error.code(), error.to_string())
    };
    let (code, words) = refused(&Resource::PODS, "default", json!({"metadata": {"name": "a"}}));
    assert_eq!((code, words.as_str()), (422, "Pod \"a\" is invalid: spec.containers: Required value"));
    let (code, words) = refused(&Resource::CONFIG_MAPS, "default", json!({"metadata": {"name": "A"}}));
    assert!(code == 422 && words.starts_with("ConfigMap \"A\" is invalid: metadata.name: Invalid value"), "{words}");
    assert_eq!(refused(&Resource::CONFIG_MAPS, "default", json!({})).0, 422);
    assert_eq!(
        refused(&Resource::CONFIG_MAPS, "default", json!({"metadata": {"name": "a", "namespace": "other"}})).0,
        400
    );
    assert_eq!(refused(&Resource::CONFIG_MAPS, "default", json!({"kind": "Pod", "metadata": {"name": "a"}})).0, 400);
    assert_eq!(refused(&Resource::CONFIG_MAPS, "default", json!({"metadata": {"name": "a"}, "data": "text"})).0, 400);
    assert_eq!(refused(&Resource::CONFIG_MAPS, "default", json!("text")).0, 400);
    let (code, words) = refused(&Resource::CONFIG_MAPS, "nowhere", json!({"metadata": {"name": "a"}}));
    assert_eq!((code, words.as_str()), (404, "namespaces \"nowhere\" not found"));
    assert_eq!(refused(&Resource::new("batch", "v1", "jobs"), "default", json!({"metadata": {"name": "a"}})).0, 404);

    create(&mut store, &Resource::PODS, pod("a", "n1"));
    let moved = Patch::Merge(json!({"spec": {"nodeName": "n2"}}));
    let error = store.patch(&Resource::PODS, "default", "a", &moved, Part::Whole).unwrap_err();
    assert!(matches!(error, KubeError::Invalid { .. }), "{error}");
    let image = Patch::Strategic(json!({"spec": {"containers": [{"name": "main", "image": "y"}]}}));
    let changed = store.patch(&Resource::PODS, "default", "a", &image, Part::Whole).unwrap();
    assert_eq!(
        (&changed["spec"]["containers"][0]["image"], &changed["metadata"]["generation"]),
        (&json!("y"), &json!(2))
    );
}

#[test]
fn an_update_of_another_version_is_a_conflict_and_one_without_change_is_none() {
    let mut store = store(100);
    let first = create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "1"}}));
    let update = |store: &mut Store, object: &Value| {
        store.update(NOW, &Resource::CONFIG_MAPS, "default", "a", object.clone(), Part::Whole)
    };
    let version = store.version();
    assert_eq!(update(&mut store, &first).unwrap(), first);
    assert_eq!(store.version(), version);

    let mut second = first.clone();
    second["data"]["k"] = json!("2");
    let second = update(&mut store, &second).unwrap();
    assert_eq!(object::resource_version(&second), Some(version + 1));
    let stale = update(&mut store, &first).unwrap_err();
    assert_eq!((stale.code(), stale.reason()), (409, "Conflict"));
    let mut blind = first.clone();
    blind["metadata"]["resourceVersion"] = json!("");
    assert!(update(&mut store, &blind).is_ok());
    blind["metadata"]["uid"] = json!("another");
    assert_eq!(update(&mut store, &blind).unwrap_err().reason(), "Conflict");
    let locked = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "3"}}));
    let refused = store.patch(&Resource::CONFIG_MAPS, "default", "a", &locked, Part::Whole).unwrap_err();
    assert_eq!(refused.reason(), "Conflict");
}

#[test]
fn the_status_is_written_by_its_subresource_alone() {
    let mut store = store(100);
    let mut pod = create(&mut store, &Resource::PODS, pod("a", "n1"));
    pod["status"]["phase"] = json!("Running");
    let whole = store.update(NOW, &Resource::PODS, "default", "a", pod.clone(), Part::Whole).unwrap();
    assert_eq!(whole["status"]["phase"], "Pending");
    pod["spec"]["nodeName"] = json!("n2");
    let status = store.update(NOW, &Resource::PODS, "default", "a", pod, Part::Status).unwrap();
    assert_eq!((&status["status"]["phase"], &status["spec"]["nodeName"]), (&json!("Running"), &json!("n1")));
    create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"name": "a"}}));
    let patch = Patch::Merge(json!({}));
    let none = store.patch(&Resource::CONFIG_MAPS, "default", "a", &patch, Part::Status);
    assert_eq!(none, Err(KubeError::NoSuchResource));
}

#[test]
fn a_pod_on_a_node_ends_in_two_steps() {
    let mut store = store(100);
    create(&mut store, &Resource::PODS, pod("unbound", ""));
    assert!(delete(&mut store, &Resource::PODS, "unbound", None));

    create(&mut store, &Resource::PODS, pod("bound", "n1"));
    assert!(!delete(&mut store, &Resource::PODS, "bound", Some(10)));
    let ending = store.get(&Resource::PODS, "default", "bound").unwrap();
    assert_eq!(ending["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 10);
    // A longer time than it has left changes nothing, a shorter one does.
    assert!(!delete(&mut store, &Resource::PODS, "bound", Some(20)));
    assert!(!delete(&mut store, &Resource::PODS, "bound", Some(5)));
    let ending = store.get(&Resource::PODS, "default", "bound").unwrap();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(delete(&mut store, &Resource::PODS, "bound", Some(0)));
    assert!(matches!(store.get(&Resource::PODS, "default", "bound"), Err(KubeError::NotFound { .. })));
}

#[test]
fn who_has_finalizers_stays_until_the_last_is_gone() {
    let mut store = store(100);
    create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"name": "a", "finalizers": ["x", "y"]}}));
    assert!(!delete(&mut store, &Resource::CONFIG_MAPS, "a", None));
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    store.patch(&Resource::CONFIG_MAPS, "default", "a", &finalizers(json!(["y"])), Part::Whole).unwrap();
    let ending = store.get(&Resource::CONFIG_MAPS, "default", "a").unwrap();
    assert!(object::deleting(&ending));
    store.patch(&Resource::CONFIG_MAPS, "default", "a", &finalizers(json!(null)), Part::Whole).unwrap();
    assert!(store.get(&Resource::CONFIG_MAPS, "default", "a").is_err());
}

#[test]
fn a_namespace_takes_what_is_in_it_along_and_nothing_new_in() {
    let mut store = store(100);
    store.create(NOW, &Resource::CONFIG_MAPS, "other", json!({"metadata": {"name": "a"}})).unwrap();
    store.create(NOW, &Resource::PODS, "other", pod("p", "n1")).unwrap();
    let gone = store.delete(NOW, &Resource::NAMESPACES, "", "other", &DeleteOptions::default()).unwrap().gone;
    assert!(!gone, "a pod is still ending in it");
    assert!(store.get(&Resource::CONFIG_MAPS, "other", "a").is_err());
    let late = store.create(NOW, &Resource::CONFIG_MAPS, "other", json!({"metadata": {"name": "late"}})).unwrap_err();
    assert_eq!((late.code(), late.reason()), (403, "Forbidden"));
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    store.delete(NOW, &Resource::PODS, "other", "p", &now).unwrap();
    assert!(store.get(&Resource::NAMESPACES, "", "other").is_err());
    let kept = store.delete(NOW, &Resource::NAMESPACES, "", "default", &now).unwrap_err();
    assert_eq!(kept.code(), 403);
}

#[test]
fn a_definition_makes_its_resource_and_takes_it_away() {
    let mut store = store(100);
    let pools = Resource::new("example.org", "v1", "pools");
    let crd = json!({
        "metadata": {"name": "pools.example.org"},
        "spec": {"group": "example.org", "scope": "Cluster", "names": {"kind": "Pool", "plural": "pools"}, "versions": [{
            "name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"]}},
        }]},
    });
    let made = store.create(NOW, &Resource::CRDS, "", crd).unwrap();
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    let refused = store.create(NOW, &pools, "", json!({"metadata": {"name": "a"}})).unwrap_err();
    assert_eq!(refused.to_string(), "Pool.example.org \"a\" is invalid: spec: Required value");
    let pool = store.create(NOW, &pools, "", json!({"metadata": {"name": "a"}, "spec": {"size": 1}})).unwrap();
    assert_eq!((&pool["apiVersion"], &pool["kind"]), (&json!("example.org/v1"), &json!("Pool")));
    let strategic = Patch::Strategic(json!({"spec": {"size": 2}}));
    let refused = store.patch(&pools, "", "a", &strategic, Part::Whole).unwrap_err();
    assert_eq!(refused.code(), 415);
    store.delete(NOW, &Resource::CRDS, "", "pools.example.org", &DeleteOptions::default()).unwrap();
    assert_eq!(store.get(&pools, "", "a"), Err(KubeError::NoSuchResource));
}

#[test]
fn both_faces_of_an_event_are_of_one_object() {
    let mut store = store(100);
    let event =
        json!({"metadata": {"name": "e"}, "note": "n", "regarding": {"name": "p"}, "reason": "r", "type": "Normal"});
    create(&mut store, &Resource::NEW_EVENTS, event);
    let old = store.get(&Resource::EVENTS, "default", "e").unwrap();
    assert_eq!((&old["apiVersion"], &old["message"]), (&json!("v1"), &json!("n")));
    let patch = Patch::Strategic(json!({"series": {"count": 2}, "note": "m"}));
    store.patch(&Resource::NEW_EVENTS, "default", "e", &patch, Part::Whole).unwrap();
    let old = store.get(&Resource::EVENTS, "default", "e").unwrap();
    assert_eq!((&old["series"]["count"], &old["message"]), (&json!(2), &json!("m")));
    let selection = Selection::default().fields(&Resource::NEW_EVENTS, "regarding.name=p").unwrap();
    assert_eq!(store.list(&Resource::NEW_EVENTS, &selection.into()).unwrap().items.len(), 1);
}

#[test]
fn versions_expire_and_the_future_is_not_known() {
    let mut store = store(3);
    let start = store.version();
    for name in ["a", "b", "c", "d"] {
        create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"name": name}}));
    }
    let all = Selection::default();
    let changes =
        |store: &Store, after| store.changes(&Resource::CONFIG_MAPS, &all, after).map(|(events, _)| events.len());
    assert_eq!(changes(&store, start), Err(KubeError::Expired { asked: start, oldest: start + 1 }));
    assert_eq!(changes(&store, start + 1), Ok(3));
    assert_eq!(changes(&store, start + 5).unwrap_err().code(), 504);
    store.expire();
    assert_eq!(changes(&store, start + 1).unwrap_err().code(), 410);
    assert_eq!(changes(&store, start + 4), Ok(0));
    let exact = ListOptions { at: At::Exactly(start + 3), ..ListOptions::default() };
    assert_eq!(store.list(&Resource::CONFIG_MAPS, &exact).unwrap_err().reason(), "Expired");
}

#[test]
fn pages_are_of_one_version() {
    let mut store = store(100);
    for name in ["a", "b", "c"] {
        create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"name": name}}));
    }
    let page = |store: &Store, from: Option<String>| {
        let options = ListOptions { limit: 2, from, ..ListOptions::default() };
        store.list(&Resource::CONFIG_MAPS, &options)
    };
    let first = page(&store, None).unwrap();
    assert_eq!((first.items.len(), first.remaining), (2, Some(1)));
    create(&mut store, &Resource::CONFIG_MAPS, json!({"metadata": {"name": "bb"}}));
    delete(&mut store, &Resource::CONFIG_MAPS, "c", None);
    let second = page(&store, first.next.clone()).unwrap();
    let names: Vec<&str> = second.items.iter().map(object::name).collect();
    assert_eq!((names, second.version, second.next), (vec!["c"], first.version, None));
    store.expire();
    assert_eq!(page(&store, first.next).unwrap_err().code(), 410);
    assert_eq!(page(&store, Some("nonsense".to_owned())).unwrap_err().code(), 400);
}

// -- any history ---------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Create(u8, bool),
    /// Sets the label and the data; the last: with the version that was last seen, or without.
    Update(u8, bool, u8, bool),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..6u8, any::<bool>()).prop_map(|(name, label)| Step::Create(name, label)),
        (0..6u8, any::<bool>(), 0..3u8, any::<bool>())
            .prop_map(|(n, label, data, lock)| Step::Update(n, label, data, lock)),
        (0..6u8).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..60)
}

fn map(name: u8, label: bool, data: u8) -> Value {
    json!({"metadata": {"name": format!("m{name}"), "labels": {"on": label.to_string()}}, "data": {"k": data.to_string()}})
}

/// Carries a step out; what it refuses must be what a model of plain values refuses.
fn take(store: &mut Store, step: &Step, seen: &mut BTreeMap<u8, Value>) {
    let maps = Resource::CONFIG_MAPS;
    match *step {
        Step::Create(name, label) => {
            let made = store.create(NOW, &maps, "default", map(name, label, 0));
            assert_eq!(made.is_err(), seen.contains_key(&name));
            if let Ok(made) = made {
                seen.insert(name, made);
            }
        }
        Step::Update(name, label, data, lock) => {
            let mut object = map(name, label, data);
            let current = seen.get(&name).and_then(object::resource_version);
            // A lock on the version before the last is stale, unless there was none.
            if lock && let Some(version) = current {
                object["metadata"]["resourceVersion"] = json!((version - u64::from(data == 2)).to_string());
            }
            let stale = lock && data == 2;
            let changed = store.update(NOW, &maps, "default", &format!("m{name}"), object, Part::Whole);
            match (&changed, current) {
                (Ok(changed), Some(_)) => {
                    assert!(!stale);
                    seen.insert(name, changed.clone());
                }
                (Err(KubeError::Conflict { .. }), Some(_)) => assert!(stale),
                (Err(KubeError::NotFound { .. }), None) => {}
                other => panic!("{other:?}"),
            }
        }
        Step::Delete(name) => {
            let gone = store.delete(NOW, &maps, "default", &format!("m{name}"), &DeleteOptions::default());
            assert_eq!(gone.is_ok(), seen.remove(&name).is_some());
        }
    }
}

/// Plays events into a state as a client does, strictly: nothing is added twice, changed or deleted unseen.
fn play(state: &mut BTreeMap<String, Value>, store: &Store, selection: &Selection, after: u64) {
    let (events, version) = store.changes(&Resource::CONFIG_MAPS, selection, after).unwrap();
    let mut last = after;
    for event in events {
        let name = object::name(&event.object).to_owned();
        let at = object::resource_version(&event.object).unwrap();
        assert!(at > last, "versions of events rise");
        last = at;
        let known = match event.kind {
            EventKind::Added | EventKind::Modified => state.insert(name, event.object),
            EventKind::Deleted => state.remove(&name),
            EventKind::Bookmark => panic!("nobody asked for bookmarks"),
        };
        assert_eq!(known.is_some(), event.kind != EventKind::Added);
    }
    assert_eq!(version, store.version());
}

fn state(store: &Store, selection: &Selection, at: At) -> BTreeMap<String, Value> {
    let options = ListOptions { selection: selection.clone(), at, ..ListOptions::default() };
    let list = store.list(&Resource::CONFIG_MAPS, &options).unwrap();
    list.items.into_iter().map(|object| (object::name(&object).to_owned(), object)).collect()
}

proptest! {
    /// A list at any version, and the watch from there, give what there is: for everybody, and through a selector.
    #[test]
    fn a_watch_from_any_version_gives_exactly_the_state(steps in steps()) {
        let mut store = store(1000);
        let mut seen = BTreeMap::new();
        let selections = [Selection::default(), Selection::namespace("default").labels("on=true").unwrap()];
        let mut past: Vec<(u64, Vec<BTreeMap<String, Value>>)> = Vec::new();
        for step in &steps {
            past.push((store.version(), selections.iter().map(|s| state(&store, s, At::Latest)).collect()));
            take(&mut store, step, &mut seen);
        }
        for (version, states) in past {
            for (selection, then) in selections.iter().zip(states) {
                let mut state_then = state(&store, selection, At::Exactly(version));
                prop_assert_eq!(&state_then, &then);
                play(&mut state_then, &store, selection, version);
                prop_assert_eq!(state_then, state(&store, selection, At::Latest));
            }
        }
    }

    /// However short the log: a watch either gives exactly the state, or says that it cannot.
    #[test]
    fn a_short_log_never_lies(steps in steps(), length in 1..20usize) {
        let mut store = store(length);
        let mut seen = BTreeMap::new();
        let all = Selection::default();
        let mut past = Vec::new();
        for step in &steps {
            past.push((store.version(), state(&store, &all, At::Latest)));
            take(&mut store, step, &mut seen);
        }
        for (version, mut then) in past {
            match store.changes(&Resource::CONFIG_MAPS, &all, version) {
                Ok(_) => {
                    play(&mut then, &store, &all, version);
                    prop_assert_eq!(then, state(&store, &all, At::Latest));
                }
                Err(KubeError::Expired { oldest, .. }) => prop_assert!(version < oldest && store.version() - version > length as u64),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
