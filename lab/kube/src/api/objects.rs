//! The verbs: get, list, watch, create, update, patch, delete, deletecollection.

use std::time::Duration;

use ::http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;
use vpc_model::WallTime;

use super::accept::Form;
use super::path::{Place, Query, option_error};
use super::stream::Sending;
use super::table::{Include, metadata_of, table};
use super::{Call, Outcome, header_text, reviews};
use crate::access::{Attributes, User};
use crate::error::{Cause, CauseReason, KubeError};
use crate::handle::{KubeHandle, WatchFrom};
use crate::object;
use crate::patch::Patch;
use crate::protobuf;
use crate::resource::{Definition, Resource};
use crate::selector::Selection;
use crate::store::{At, DeleteOptions, Deleted, ListOptions, Part, Store};

/// How long a watch lasts if its client does not say.
const WATCH_LASTS: Duration = Duration::from_secs(1800);
/// Media types of bodies that are taken.
const JSON: &str = "application/json";

/// What a request does; `None`: there is no such verb.
pub(super) fn verb(method: &Method, place: &Place, query: &Query) -> Option<&'static str> {
    let collection = place.name.is_empty();
    match *method {
        Method::GET if collection && query.flag("watch") => Some("watch"),
        Method::GET if collection => Some("list"),
        Method::GET => Some("get"),
        Method::POST => Some("create"),
        Method::PUT if !collection => Some("update"),
        Method::PATCH if !collection => Some("patch"),
        Method::DELETE if collection => Some("deletecollection"),
        Method::DELETE => Some("delete"),
        _ => None,
    }
}

/// Answers a request that is about objects.
pub(super) fn answer(handle: &KubeHandle, user: &User, place: &Place, call: &Call) -> Result<Outcome, KubeError> {
    let verb = verb(&call.method, place, &call.query).ok_or(KubeError::MethodNotAllowed)?;
    if place.name.is_empty() && verb == "create" && reviews::RESOURCES.iter().any(|(known, _)| *known == place.resource)
    {
        let answer = reviews::answer(handle, user, &place.resource, body(call)?).ok_or(KubeError::NoSuchResource)?;
        return Ok(Outcome::Json(StatusCode::CREATED, answer));
    }
    let definition = handle.read(|store| store.definition(&place.resource).cloned())?;
    if !definition.namespaced && !place.namespace.is_empty() {
        return Err(KubeError::NoSuchResource);
    }
    handle.check(&Attributes {
        user,
        verb,
        resource: &place.resource,
        subresource: &place.subresource,
        namespace: if place.resource == Resource::NAMESPACES { &place.name } else { &place.namespace },
        name: &place.name,
    })?;
    let request = Verb { handle, place, call, definition };
    match (place.subresource.as_str(), verb) {
        ("", "list") => request.list(),
        ("", "watch") => request.watch(),
        ("", "get") => request.get(),
        ("", "create") if place.name.is_empty() => request.create(),
        ("", "update") => request.update(Part::Whole),
        ("", "patch") => request.patch(Part::Whole),
        ("", "delete") => request.delete(),
        ("", "deletecollection") => request.delete_collection(),
        ("status", "get") if request.definition.status => request.get(),
        ("status", "update") => request.update(Part::Status),
        ("status", "patch") => request.patch(Part::Status),
        ("binding", "create") if place.resource == Resource::PODS => request.bind(),
        ("token", "create") if place.resource == Resource::SERVICE_ACCOUNTS => request.token(),
        ("" | "status", _) => Err(KubeError::MethodNotAllowed),
        _ => Err(KubeError::NoSuchResource),
    }
}

/// One request that is allowed.
struct Verb<'a> {
    handle: &'a KubeHandle,
    place: &'a Place,
    call: &'a Call,
    definition: Definition,
}

impl Verb<'_> {
    fn get(&self) -> Result<Outcome, KubeError> {
        let Place { resource, namespace, name, .. } = self.place;
        let form = self.form()?;
        let object = self.handle.get(resource, namespace, name)?;
        Ok(Outcome::Json(StatusCode::OK, self.shape(form, object)))
    }

    fn list(&self) -> Result<Outcome, KubeError> {
        let form = self.form()?;
        let options = self.list_options()?;
        let list = self.handle.list(&self.place.resource, &options)?;
        let mut metadata = json!({"resourceVersion": list.version.to_string()});
        if let Some(next) = list.next {
            metadata["continue"] = json!(next);
        }
        if let Some(remaining) = list.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        Ok(Outcome::Json(StatusCode::OK, self.shape_list(form, metadata, list.items)))
    }

    fn watch(&self) -> Result<Outcome, KubeError> {
        let form = self.form()?;
        let query = &self.call.query;
        let from = self.watch_from()?;
        let lasts = match query.number("timeoutSeconds")? {
            0 => WATCH_LASTS,
            seconds => Duration::from_secs(seconds).min(WATCH_LASTS),
        };
        let sending = Sending {
            handle: self.handle.clone(),
            definition: self.definition.clone(),
            watch: self.handle.watch(&self.place.resource, self.selection()?, from),
            form,
            include: Include::of(query.get("includeObject")),
            bookmarks: query.flag("allowWatchBookmarks"),
            until: Instant::now() + lasts,
        };
        Ok(Outcome::Watch(Box::new(sending)))
    }

    fn create(&self) -> Result<Outcome, KubeError> {
        let Place { resource, namespace, .. } = self.place;
        let form = self.form()?;
        let mut object = body(self.call)?;
        let mut namespace = namespace.clone();
        if self.definition.namespaced && namespace.is_empty() {
            // As a real API server, which takes the namespace that the object names.
            namespace = match object::namespace(&object) {
                "" => "default".to_owned(),
                own => own.to_owned(),
            };
        }
        if !object.is_object() {
            object = Value::Null;
        }
        let created = self.change(|store, now| store.create(now, resource, &namespace, object))?;
        Ok(Outcome::Json(StatusCode::CREATED, self.shape(form, created)))
    }

    fn update(&self, part: Part) -> Result<Outcome, KubeError> {
        let Place { resource, namespace, name, .. } = self.place;
        let form = self.form()?;
        let object = body(self.call)?;
        let updated = self.change(|store, now| store.update(now, resource, namespace, name, object, part))?;
        Ok(Outcome::Json(StatusCode::OK, self.shape(form, updated)))
    }

    fn patch(&self, part: Part) -> Result<Outcome, KubeError> {
        let Place { resource, namespace, name, .. } = self.place;
        let form = self.form()?;
        let patch = Patch::parse(media_type(self.call), &self.call.body)?;
        let patched = self.change(|store, _| store.patch(resource, namespace, name, &patch, part))?;
        Ok(Outcome::Json(StatusCode::OK, self.shape(form, patched)))
    }

    fn delete(&self) -> Result<Outcome, KubeError> {
        let Place { resource, namespace, name, .. } = self.place;
        let options = self.delete_options()?;
        let deleted = self.change(|store, now| store.delete(now, resource, namespace, name, &options))?;
        Ok(Outcome::Json(StatusCode::OK, self.deleted(deleted)))
    }

    fn delete_collection(&self) -> Result<Outcome, KubeError> {
        let Place { resource, .. } = self.place;
        let options = self.delete_options()?;
        let listed = ListOptions::from(self.selection()?);
        let version = self.change(|store, now| {
            let list = store.list(resource, &listed)?;
            let deleted: Result<Vec<Value>, KubeError> = list
                .items
                .iter()
                .map(|object| {
                    let (namespace, name) = (object::namespace(object), object::name(object));
                    store.delete(now, resource, namespace, name, &options).map(|deleted| deleted.object)
                })
                .collect();
            Ok((store.version(), deleted?))
        });
        let (version, deleted) = version?;
        let metadata = json!({"resourceVersion": version.to_string()});
        Ok(Outcome::Json(StatusCode::OK, self.shape_list(Form::Objects, metadata, deleted)))
    }

    fn bind(&self) -> Result<Outcome, KubeError> {
        let binding = body(self.call)?;
        let node = object::text(&binding, "/target/name");
        if node.is_empty() {
            return Err(KubeError::BadRequest("`target.name` is missing: the name of a node".into()));
        }
        self.change(|store, _| store.bind(&self.place.namespace, &self.place.name, node))?;
        Ok(Outcome::Json(StatusCode::CREATED, success(Value::Null)))
    }

    fn token(&self) -> Result<Outcome, KubeError> {
        let mut request = body(self.call)?;
        let audiences: Vec<String> = request
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|audience| Some(audience.as_str()?.to_owned()))
            .collect();
        let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_u64).unwrap_or(3600);
        let Place { namespace, name, .. } = self.place;
        let (token, expires) = self.handle.account_token(namespace, name, &audiences, Duration::from_secs(seconds))?;
        let Some(fields) = request.as_object_mut() else {
            return Err(KubeError::BadRequest("the body is not an object".into()));
        };
        fields.insert("apiVersion".to_owned(), json!("authentication.k8s.io/v1"));
        fields.insert("kind".to_owned(), json!("TokenRequest"));
        fields.insert("status".to_owned(), json!({"token": token, "expirationTimestamp": expires}));
        Ok(Outcome::Json(StatusCode::CREATED, request))
    }

    // -- what the query says ---------------------------------------------------------------------------------------------

    fn selection(&self) -> Result<Selection, KubeError> {
        let query = &self.call.query;
        Selection::namespace(&*self.place.namespace)
            .labels(query.get("labelSelector"))?
            .fields(&self.place.resource, query.get("fieldSelector"))
    }

    fn list_options(&self) -> Result<ListOptions, KubeError> {
        let query = &self.call.query;
        let forbidden = |field: &str, why: &str| {
            Err(option_error(&self.place.resource, Cause::new(field, CauseReason::Forbidden, why)))
        };
        let (version, matching) = (query.get("resourceVersion"), query.get("resourceVersionMatch"));
        if query.tri("sendInitialEvents").is_some() {
            return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if !matching.is_empty() && version.is_empty() {
            return forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        let limit = usize::try_from(query.number("limit")?).unwrap_or(usize::MAX);
        let from = Some(query.get("continue").to_owned()).filter(|token| !token.is_empty());
        if from.is_some() && !matches!(version, "" | "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(KubeError::BadRequest(why.to_owned()));
        }
        let number = query.number("resourceVersion")?;
        let at = match (version, matching) {
            ("", _) => At::Latest,
            ("0", "Exact") => {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                );
            }
            (_, "Exact") => At::Exactly(number),
            // What lists with a limit have meant before there was a way to say it.
            (_, "") if limit > 0 && number > 0 => At::Exactly(number),
            (_, "" | "NotOlderThan") => At::NotOlderThan(number),
            (_, other) => {
                let detail = format!("\"{other}\": supported values: \"Exact\", \"NotOlderThan\"");
                let cause = Cause::new("resourceVersionMatch", CauseReason::NotSupported, detail);
                return Err(option_error(&self.place.resource, cause));
            }
        };
        Ok(ListOptions { selection: self.selection()?, at, limit, from })
    }

    fn watch_from(&self) -> Result<WatchFrom, KubeError> {
        let query = &self.call.query;
        let forbidden = |field: &str, why: &str| {
            Err(option_error(&self.place.resource, Cause::new(field, CauseReason::Forbidden, why)))
        };
        let initial = query.tri("sendInitialEvents");
        let matching = query.get("resourceVersionMatch");
        let version = query.number("resourceVersion")?;
        match (initial, matching) {
            (Some(_), "NotOlderThan") | (None, "") => {}
            (Some(_), _) => {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return forbidden("resourceVersionMatch", why);
            }
            (None, _) => {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                return forbidden("resourceVersionMatch", why);
            }
        }
        Ok(match initial {
            Some(true) if query.flag("allowWatchBookmarks") => WatchFrom::StateThenBookmark,
            Some(true) => WatchFrom::State,
            Some(false) if version == 0 => WatchFrom::Now,
            None if version == 0 => WatchFrom::State,
            Some(false) | None => WatchFrom::Version(version),
        })
    }

    fn delete_options(&self) -> Result<DeleteOptions, KubeError> {
        let options = if self.call.body.is_empty() { json!({}) } else { body(self.call)? };
        let precondition = |field: &str| {
            options.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str).map(str::to_owned)
        };
        let grace = match self.call.query.get("gracePeriodSeconds") {
            "" => options["gracePeriodSeconds"].as_u64(),
            _ => Some(self.call.query.number("gracePeriodSeconds")?),
        };
        let (uid, resource_version) = (precondition("uid"), precondition("resourceVersion"));
        Ok(DeleteOptions { grace_seconds: grace, uid, resource_version })
    }

    /// Makes a change, or with `dryRun=All` tells what it would give.
    fn change<T>(&self, change: impl FnOnce(&mut Store, WallTime) -> Result<T, KubeError>) -> Result<T, KubeError> {
        let says = |options: &Value| options["dryRun"].as_array().is_some_and(|all| !all.is_empty());
        let options_say = self.call.method == Method::DELETE && body(self.call).is_ok_and(|options| says(&options));
        if self.call.query.dry_run(&self.place.resource)? || options_say {
            self.handle.rehearse(change)
        } else {
            self.handle.write(change)
        }
    }

    // -- the answer's form -----------------------------------------------------------------------------------------------

    fn form(&self) -> Result<Form, KubeError> {
        Form::wanted(header_text(&self.call.headers, header::ACCEPT))
    }

    fn shape(&self, form: Form, object: Value) -> Value {
        match form {
            Form::Objects => object,
            Form::Metadata => metadata_of(&object),
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                self.table(version, metadata, &[object])
            }
        }
    }

    fn shape_list(&self, form: Form, metadata: Value, items: Vec<Value>) -> Value {
        match form {
            Form::Objects => json!({
                "kind": format!("{}List", self.definition.kind), "apiVersion": self.place.resource.api_version(),
                "metadata": metadata, "items": items,
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items.iter().map(metadata_of).collect::<Vec<_>>(),
            }),
            Form::Table(version) => self.table(version, metadata, &items),
        }
    }

    fn table(&self, version: &str, metadata: Value, objects: &[Value]) -> Value {
        let include = Include::of(self.call.query.get("includeObject"));
        table(&self.definition, version, metadata, objects, include, true, self.handle.seconds())
    }

    /// Pods are shown as they were; of other kinds there is only word that they are gone.
    fn deleted(&self, deleted: Deleted) -> Value {
        let shown = [Resource::PODS, Resource::SERVICES, Resource::SERVICE_ACCOUNTS].contains(&self.place.resource);
        if shown || !deleted.gone {
            return deleted.object;
        }
        let mut details = json!({
            "name": self.place.name, "kind": self.place.resource.plural(),
            "uid": deleted.object["metadata"]["uid"],
        });
        if !self.place.resource.group().is_empty() {
            details["group"] = json!(self.place.resource.group());
        }
        success(details)
    }
}

fn success(details: Value) -> Value {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if !details.is_null() {
        status["details"] = details;
    }
    status
}

/// The media type of the body, without its parameters.
fn media_type(call: &Call) -> &str {
    header_text(&call.headers, header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim()
}

fn body(call: &Call) -> Result<Value, KubeError> {
    match media_type(call) {
        "" | JSON => {}
        protobuf::MEDIA_TYPE => return protobuf::read(&call.body),
        _ => return Err(KubeError::UnsupportedMediaType(vec![JSON, protobuf::MEDIA_TYPE])),
    }
    serde_json::from_slice(&call.body).map_err(|error| KubeError::BadRequest(format!("the body is not JSON: {error}")))
}
