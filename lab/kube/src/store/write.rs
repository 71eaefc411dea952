//! Changing objects: metadata that the server keeps, versions, and the slow end of those that are deleted gracefully.

use std::sync::Arc;

use serde_json::{Value, json};
use vpc_model::{Millis, WallTime};

use super::log::Key;
use super::{Store, key, present, rules};
use crate::convert;
use crate::error::{Cause, CauseReason, KubeError};
use crate::object;
use crate::patch::Patch;
use crate::resource::{Definition, Resource};

/// Attempts to find a generated name that nobody has.
const NAME_ATTEMPTS: usize = 8;

/// Which part of an object an update is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status, if the status has a subresource of its own.
    Whole,
    /// The status; labels and annotations along with it for kinds that are built in.
    Status,
}

/// How to delete. The default: as the kind does it, whatever the object's version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds the object's programs have to end; 0: it is gone at once. `None`: what the pod says, or 30.
    pub grace_seconds: Option<u64>,
    /// Only if it has this uid.
    pub uid: Option<String>,
    /// Only if it has this version.
    pub resource_version: Option<String>,
}

/// An object whose deletion was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Deleted {
    /// The object; if it is gone, as it was at last.
    pub object: Value,
    /// It is gone; otherwise somebody (the kubelet, the owner of a finalizer) has to end it.
    pub gone: bool,
}

impl Store {
    /// Creates an object, under a name of its own if it has but a `generateName`.
    ///
    /// # Errors
    /// There is no such resource or namespace, the name is taken, or the object breaks a rule of its kind.
    pub fn create(
        &mut self,
        now: WallTime,
        resource: &Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, KubeError> {
        let definition = self.definition(resource)?.clone();
        let mut object = self.admit(&definition, namespace, object)?;
        let generated = object::name(&object).is_empty();
        if generated {
            self.generate_name(&definition, namespace, &mut object)?;
        }
        let name = object::name(&object).to_owned();
        self.check_metadata(&definition, &object)?;
        self.check_namespace(&definition, namespace, &name)?;
        if !object::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(KubeError::BadRequest("resourceVersion should not be set on objects to be created".into()));
        }
        let key = key(resource, namespace, &name);
        if self.objects.contains_key(&key) {
            return Err(KubeError::AlreadyExists { resource: resource.clone(), name });
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"] {
            object::remove_metadata(&mut object, field);
        }
        object::set_metadata(&mut object, "uid", self.uid());
        object::set_metadata(&mut object, "creationTimestamp", object::timestamp(now));
        if object.get("spec").is_some() && rules::counts_generations(&definition) {
            object::set_metadata(&mut object, "generation", 1);
        }
        rules::on_create(&definition, &mut object, now)?;
        let stored = self.commit(key, Some(object));
        self.after_create(now, resource, &stored)?;
        Ok(present(&definition, &stored))
    }

    /// Replaces an object, or its status. With a `resourceVersion` in it: only that version. What changes nothing gives
    /// no new version.
    ///
    /// # Errors
    /// There is no such object, it has another version or uid, or the new one breaks a rule of its kind.
    pub fn update(
        &mut self,
        now: WallTime,
        resource: &Resource,
        namespace: &str,
        name: &str,
        object: Value,
        part: Part,
    ) -> Result<Value, KubeError> {
        let definition = self.definition(resource)?.clone();
        if part == Part::Status && !definition.status {
            return Err(KubeError::NoSuchResource);
        }
        let object = self.admit(&definition, namespace, object)?;
        if object::name(&object) != name {
            let message = format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object::name(&object)
            );
            return Err(KubeError::BadRequest(message));
        }
        let before = match self.stored(&definition, namespace, name) {
            Ok(before) => before.clone(),
            Err(_) if rules::created_by_update(&definition) => {
                let mut object = object;
                object::remove_metadata(&mut object, "resourceVersion");
                return self.create(now, resource, namespace, object);
            }
            Err(error) => return Err(error),
        };
        if object::resource_version(&object).is_none() && rules::update_names_version(&definition) {
            let cause =
                Cause::new("metadata.resourceVersion", CauseReason::Invalid, "0x0: must be specified for an update");
            return Err(rules::invalid(&definition, name, vec![cause]));
        }
        self.replace(&definition, &before, object, part)
    }

    /// Changes an object by a patch. With a `resourceVersion` in the result of it: only that version.
    ///
    /// # Errors
    /// As [`Store::update`]; or the patch cannot be applied.
    pub fn patch(
        &mut self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Patch,
        part: Part,
    ) -> Result<Value, KubeError> {
        let definition = self.definition(resource)?.clone();
        if part == Part::Status && !definition.status {
            return Err(KubeError::NoSuchResource);
        }
        let before = self.stored(&definition, namespace, name)?.clone();
        let shown = present(&definition, &before);
        let object = patch.apply(&definition, &shown)?;
        let object = self.admit(&definition, namespace, object)?;
        if object::name(&object) != name {
            let cause = Cause::new("metadata.name", CauseReason::Invalid, "field is immutable");
            return Err(rules::invalid(&definition, name, vec![cause]));
        }
        self.replace(&definition, &before, object, part)
    }

    /// Deletes an object. Pods on a node get their grace period and stay until they are deleted with a grace of 0;
    /// objects with finalizers stay until the last of these is taken away; namespaces stay until they are empty.
    ///
    /// # Errors
    /// There is no such object, or it is not the one that `options` mean.
    pub fn delete(
        &mut self,
        now: WallTime,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, KubeError> {
        let definition = self.definition(resource)?.clone();
        let stored = self.stored(&definition, namespace, name)?.clone();
        self.check_preconditions(&definition, &stored, options)?;
        if *resource == Resource::NAMESPACES {
            return self.delete_namespace(now, &definition, &stored);
        }
        if *resource == Resource::CRDS {
            self.delete_customs(now, &stored)?;
        }
        let grace = rules::grace(&definition, &stored, options.grace_seconds);
        if grace == 0 && !object::has_finalizers(&stored) {
            return Ok(Deleted { object: self.remove(&definition, &stored), gone: true });
        }
        let left = stored.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
        if object::deleting(&stored) && left.is_none_or(|left| left <= grace) {
            return Ok(Deleted { object: present(&definition, &stored), gone: false });
        }
        let mut object = Value::clone(&stored);
        object::set_metadata(
            &mut object,
            "deletionTimestamp",
            object::timestamp(now + Millis(grace.saturating_mul(1000))),
        );
        object::set_metadata(&mut object, "deletionGracePeriodSeconds", grace);
        let stored = self.commit(key(resource, namespace, name), Some(object));
        Ok(Deleted { object: present(&definition, &stored), gone: false })
    }

    /// Puts a pod on a node.
    ///
    /// # Errors
    /// There is no such pod, or it is on a node already.
    pub fn bind(&mut self, namespace: &str, pod: &str, node: &str) -> Result<(), KubeError> {
        let definition = self.definition(&Resource::PODS)?.clone();
        let stored = self.stored(&definition, namespace, pod)?;
        let on = object::text(stored, "/spec/nodeName");
        if !on.is_empty() || object::deleting(stored) {
            let why = if on.is_empty() {
                "it is being deleted".to_owned()
            } else {
                format!("pod {pod} is already assigned to node \"{on}\"")
            };
            return Err(KubeError::Conflict { resource: Resource::PODS, name: pod.to_owned(), why: why.into() });
        }
        let mut object = Value::clone(stored);
        object["spec"]["nodeName"] = json!(node);
        self.commit(key(&Resource::PODS, namespace, pod), Some(object));
        Ok(())
    }

    // -- below: the steps ------------------------------------------------------------------------------------------------

    /// What the caller sent, in the form of the storage, with kind and namespace checked.
    fn admit(&self, definition: &Definition, namespace: &str, mut object: Value) -> Result<Value, KubeError> {
        let api_version = definition.resource.api_version();
        check_shape(&mut object)?;
        for (field, expected) in [("apiVersion", &api_version), ("kind", &definition.kind)] {
            let sent = object::text(&object, &format!("/{field}"));
            if !sent.is_empty() && sent != expected {
                let message =
                    format!("the {field} in the data ({sent}) does not match the expected {field} ({expected})");
                return Err(KubeError::BadRequest(message));
            }
        }
        let sent = object::namespace(&object);
        if !definition.namespaced {
            object::remove_metadata(&mut object, "namespace");
        } else if sent.is_empty() {
            object::set_metadata(&mut object, "namespace", namespace);
        } else if sent != namespace {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(KubeError::BadRequest(message.to_owned()));
        }
        if definition.resource == Resource::NEW_EVENTS {
            object = convert::event_to_core(&object);
        }
        // As it is stored, said or not: what is sent back unchanged changes nothing.
        let stored_as = if definition.resource == Resource::NEW_EVENTS { "v1" } else { api_version.as_str() };
        object["apiVersion"] = json!(stored_as);
        object["kind"] = json!(definition.kind);
        Ok(object)
    }

    fn generate_name(&mut self, definition: &Definition, namespace: &str, object: &mut Value) -> Result<(), KubeError> {
        let prefix: String = object::text(object, "/metadata/generateName").chars().take(58).collect();
        if prefix.is_empty() {
            let cause = Cause::new("metadata.name", CauseReason::Required, "name or generateName is required");
            return Err(rules::invalid(definition, "", vec![cause]));
        }
        let mut name = String::new();
        for _ in 0..NAME_ATTEMPTS {
            name = format!("{prefix}{}", self.suffix());
            if self.stored(definition, namespace, &name).is_err() {
                break;
            }
        }
        object::set_metadata(object, "name", name);
        Ok(())
    }

    fn check_metadata(&self, definition: &Definition, object: &Value) -> Result<(), KubeError> {
        let name = object::name(object);
        let mut causes: Vec<Cause> = object::check_subdomain(name, "metadata.name").into_iter().collect();
        causes.extend(object::check_labels(object));
        if causes.is_empty() { Ok(()) } else { Err(rules::invalid(definition, name, causes)) }
    }

    fn check_namespace(&self, definition: &Definition, namespace: &str, name: &str) -> Result<(), KubeError> {
        if !definition.namespaced {
            return Ok(());
        }
        let not_found = || KubeError::NotFound { resource: Resource::NAMESPACES, name: namespace.to_owned() };
        let stored = self.objects.get(&key(&Resource::NAMESPACES, "", namespace)).ok_or_else(not_found)?;
        if object::deleting(stored) {
            let (resource, name) = (definition.resource.clone(), name.to_owned());
            return Err(KubeError::NamespaceTerminating { resource, name, namespace: namespace.into() });
        }
        Ok(())
    }

    fn check_preconditions(
        &self,
        definition: &Definition,
        stored: &Value,
        options: &DeleteOptions,
    ) -> Result<(), KubeError> {
        let checks = [("uid", &options.uid, "UID"), ("resourceVersion", &options.resource_version, "ResourceVersion")];
        for (field, wanted, word) in checks {
            let is = object::text(stored, &format!("/metadata/{field}"));
            if let Some(wanted) = wanted
                && wanted != is
            {
                let why = format!("Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {is}");
                return Err(conflict(definition, stored, why));
            }
        }
        Ok(())
    }

    /// Puts `object` in the place of `before`, as far as `part` goes.
    fn replace(
        &mut self,
        definition: &Definition,
        before: &Arc<Value>,
        object: Value,
        part: Part,
    ) -> Result<Value, KubeError> {
        let sent_version = object::text(&object, "/metadata/resourceVersion");
        if !sent_version.is_empty() && sent_version != object::text(before, "/metadata/resourceVersion") {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(conflict(definition, before, why.to_owned()));
        }
        let (sent_uid, uid) = (object::text(&object, "/metadata/uid"), object::text(before, "/metadata/uid"));
        if !sent_uid.is_empty() && sent_uid != uid {
            let why = format!("Precondition failed: UID in precondition: {sent_uid}, UID in object meta: {uid}");
            return Err(conflict(definition, before, why));
        }
        let mut object = take_part(definition, before, object, part);
        keep_metadata(before, &mut object);
        if rules::counts_generations(definition) && object.get("spec") != before.get("spec") {
            let generation = before.pointer("/metadata/generation").and_then(Value::as_u64).unwrap_or(0);
            object::set_metadata(&mut object, "generation", generation + 1);
        }
        self.check_metadata(definition, &object)?;
        rules::on_update(definition, before, &mut object)?;
        if object == **before {
            return Ok(present(definition, before));
        }
        let ended = object::deleting(&object)
            && !object::has_finalizers(&object)
            && object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(0) == 0
            && definition.resource != Resource::NAMESPACES;
        let (namespace, name) = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        let stored = self.commit(key(&definition.resource, &namespace, &name), Some(object));
        if definition.resource == Resource::CRDS {
            self.registry.define(&stored);
        }
        if ended {
            return Ok(self.remove(definition, &stored));
        }
        Ok(present(definition, &stored))
    }

    /// Writes an object down with its new version, or removes it.
    fn commit(&mut self, key: Key, object: Option<Value>) -> Arc<Value> {
        let after = object.map(|mut object| {
            object::set_metadata(&mut object, "resourceVersion", self.log.next_revision().to_string());
            Arc::new(object)
        });
        let before = match &after {
            Some(after) => self.objects.insert(key.clone(), after.clone()),
            None => self.objects.remove(&key),
        };
        self.log.push(key, before.clone(), after.clone());
        after.or(before).unwrap_or_default()
    }

    fn remove(&mut self, definition: &Definition, stored: &Arc<Value>) -> Value {
        let namespace = object::namespace(stored).to_owned();
        let last = self.commit(key(&definition.resource, &namespace, object::name(stored)), None);
        if definition.resource == Resource::CRDS {
            self.registry.forget(&last);
        }
        self.end_namespace(&namespace);
        present(definition, &last)
    }

    /// What comes along with a new object.
    fn after_create(&mut self, now: WallTime, resource: &Resource, stored: &Value) -> Result<(), KubeError> {
        if *resource == Resource::CRDS {
            self.registry.define(stored);
        }
        if *resource == Resource::NAMESPACES {
            let account = json!({"metadata": {"name": "default"}});
            self.create(now, &Resource::SERVICE_ACCOUNTS, object::name(stored), account)?;
        }
        Ok(())
    }

    fn delete_namespace(
        &mut self,
        now: WallTime,
        definition: &Definition,
        stored: &Arc<Value>,
    ) -> Result<Deleted, KubeError> {
        let name = object::name(stored).to_owned();
        if matches!(name.as_str(), "default" | "kube-system" | "kube-public") {
            let why = "this namespace may not be deleted".into();
            return Err(KubeError::Forbidden { resource: Resource::NAMESPACES, name, why });
        }
        let mut object = Value::clone(stored);
        object::set_metadata(&mut object, "deletionTimestamp", object::timestamp(now));
        object["status"]["phase"] = json!("Terminating");
        let stored = self.commit(key(&Resource::NAMESPACES, "", &name), Some(object));
        let inside: Vec<(String, String)> = self
            .objects
            .keys()
            .filter(|key| key.namespace == name)
            .map(|key| (key.kind.to_string(), key.name.clone()))
            .collect();
        for (kind, inner) in inside {
            self.delete_stored(now, &kind, &name, &inner)?;
        }
        self.end_namespace(&name);
        let gone = !self.objects.contains_key(&key(&Resource::NAMESPACES, "", &name));
        Ok(Deleted { object: present(definition, &stored), gone })
    }

    /// The objects of a custom resource go with its definition.
    fn delete_customs(&mut self, now: WallTime, crd: &Value) -> Result<(), KubeError> {
        let kind = object::name(crd).to_owned();
        let all: Vec<(String, String)> =
            self.of_kind(&kind).map(|(key, _)| (key.namespace.clone(), key.name.clone())).collect();
        all.iter().try_for_each(|(namespace, name)| self.delete_stored(now, &kind, namespace, name))
    }

    fn delete_stored(&mut self, now: WallTime, kind: &str, namespace: &str, name: &str) -> Result<(), KubeError> {
        let found = self.registry.all().iter().find(|definition| definition.resource.storage() == kind);
        let resource = found.map(|definition| definition.resource.clone()).ok_or(KubeError::NoSuchResource)?;
        self.delete(now, &resource, namespace, name, &DeleteOptions::default()).map(|_| ())
    }

    /// Removes a namespace that is being deleted and is empty.
    fn end_namespace(&mut self, namespace: &str) {
        let key = key(&Resource::NAMESPACES, "", namespace);
        let ending = self.objects.get(&key).is_some_and(|stored| object::deleting(stored));
        if ending && !self.objects.keys().any(|key| key.namespace == namespace) {
            self.commit(key, None);
        }
    }
}

/// The parts that every kind has, if it has them, are objects: from here on nobody needs to ask.
fn check_shape(object: &mut Value) -> Result<(), KubeError> {
    let Some(fields) = object.as_object_mut() else {
        return Err(KubeError::BadRequest("the body is not an object".into()));
    };
    for field in ["metadata", "spec", "status", "data", "stringData"] {
        match fields.get(field) {
            Some(Value::Null) => _ = fields.remove(field),
            Some(value) if !value.is_object() => {
                return Err(KubeError::BadRequest(format!("`{field}` is not an object")));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn conflict(definition: &Definition, stored: &Value, why: String) -> KubeError {
    KubeError::Conflict {
        resource: definition.resource.clone(),
        name: object::name(stored).to_owned(),
        why: why.into(),
    }
}

/// The new object as far as the part goes, the old one for the rest.
fn take_part(definition: &Definition, before: &Value, mut sent: Value, part: Part) -> Value {
    let status = |of: &Value| of.get("status").cloned();
    match part {
        Part::Whole if !definition.status => sent,
        Part::Whole => {
            set_or_remove(&mut sent, "status", status(before));
            sent
        }
        Part::Status => {
            let mut object = before.clone();
            set_or_remove(&mut object, "status", status(&sent));
            if !definition.custom {
                for field in ["labels", "annotations"] {
                    match sent.pointer(&format!("/metadata/{field}")) {
                        Some(value) => object::set_metadata(&mut object, field, value.clone()),
                        None => object::remove_metadata(&mut object, field),
                    }
                }
            }
            object
        }
    }
}

fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    match (object.as_object_mut(), value) {
        (Some(object), Some(value)) => _ = object.insert(field.to_owned(), value),
        (Some(object), None) => _ = object.remove(field),
        (None, _) => {}
    }
}

/// Keeps what only the server writes.
fn keep_metadata(before: &Value, object: &mut Value) {
    const OURS: [&str; 6] = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for field in OURS {
        match before.pointer(&format!("/metadata/{field}")) {
            Some(value) => object::set_metadata(object, field, value.clone()),
            None => object::remove_metadata(object, field),
        }
    }
    object::remove_metadata(object, "managedFields");
}
