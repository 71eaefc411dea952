//! Refusals, and the `Status` objects they are on the wire. Clients decide by `reason` and `code` alone.

use serde_json::{Value, json};

use crate::resource::Resource;

/// Why the API refused. [`KubeError::code`] and [`KubeError::reason`] are what client-go looks at.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KubeError {
    /// There is no such object.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// Where it was looked for.
        resource: Resource,
        /// Its name.
        name: String,
    },
    /// There is no such resource or subresource.
    #[error("the server could not find the requested resource")]
    NoSuchResource,
    /// An object of that name exists.
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
    },
    /// The object has another resource version or uid than the caller expects: read it again.
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {why}")]
    Conflict {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
        /// What does not fit.
        why: Box<str>,
    },
    /// The object breaks a rule of its kind.
    #[error("{kind}{} \"{name}\" is invalid: {}", group_suffix(resource), join(causes))]
    Invalid {
        /// Its resource.
        resource: Box<Resource>,
        /// Its kind.
        kind: String,
        /// Its name; empty if it has none.
        name: String,
        /// What is wrong, field by field.
        causes: Vec<Cause>,
    },
    /// The caller may not do that.
    #[error("{resource} {}is forbidden: {why}", quoted(name))]
    Forbidden {
        /// What it was about.
        resource: Resource,
        /// Which object; empty: all of them.
        name: String,
        /// Who may not do what, or why not.
        why: Box<str>,
    },
    /// The namespace is being deleted: nothing new comes into it.
    #[error(
        "{resource} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
    )]
    NamespaceTerminating {
        /// What was to be created.
        resource: Resource,
        /// Its name.
        name: String,
        /// The namespace.
        namespace: Box<str>,
    },
    /// Nobody is known by that token, or there is none.
    #[error("Unauthorized")]
    Unauthorized,
    /// The version asked for is no longer remembered: list again.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired {
        /// The version that was asked for.
        asked: u64,
        /// The oldest that is remembered.
        oldest: u64,
    },
    /// The version asked for lies in the future. The caller should try again in a second.
    #[error("Too large resource version: {asked}, current: {current}")]
    TooLarge {
        /// The version that was asked for.
        asked: u64,
        /// The latest.
        current: u64,
    },
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// The client takes nothing that the server has.
    #[error("only the following media types are accepted: {}", .0.join(", "))]
    NotAcceptable(Vec<&'static str>),
    /// The body is of a type that the server does not take there.
    #[error("the body of the request was in an unknown format - accepted media types include: {}", .0.join(", "))]
    UnsupportedMediaType(Vec<&'static str>),
    /// That cannot be done with this resource.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// The body is longer than 3 MiB.
    #[error("Request entity too large: limit is {limit}")]
    TooLong {
        /// Bytes that are taken.
        limit: usize,
    },
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Path of the field (`spec.containers[0].name`).
    pub field: String,
    /// What kind of fault (`FieldValueRequired`).
    pub reason: CauseReason,
    /// The rest of the sentence.
    pub detail: String,
}

/// Kinds of faults in fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseReason {
    /// The field is missing.
    Required,
    /// Its value is not allowed.
    Invalid,
    /// Its value is not one of those there are.
    NotSupported,
    /// It is of the wrong type.
    TypeInvalid,
    /// It may not be set there.
    Forbidden,
}

impl CauseReason {
    fn code(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Forbidden => "FieldValueForbidden",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
        }
    }
}

impl Cause {
    /// A cause.
    pub fn new(field: impl Into<String>, reason: CauseReason, detail: impl Into<String>) -> Self {
        Self { field: field.into(), reason, detail: detail.into() }
    }

    fn text(&self) -> String {
        if self.detail.is_empty() {
            self.reason.words().to_owned()
        } else {
            format!("{}: {}", self.reason.words(), self.detail)
        }
    }
}

impl KubeError {
    /// HTTP status.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::NoSuchResource => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Invalid { .. } => 422,
            Self::Forbidden { .. } | Self::NamespaceTerminating { .. } => 403,
            Self::Unauthorized => 401,
            Self::Expired { .. } => 410,
            Self::TooLarge { .. } => 504,
            Self::BadRequest(_) => 400,
            Self::NotAcceptable(_) => 406,
            Self::UnsupportedMediaType(_) => 415,
            Self::MethodNotAllowed => 405,
            Self::TooLong { .. } => 413,
        }
    }

    /// What clients tell refusals apart by.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::NoSuchResource => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Invalid { .. } => "Invalid",
            Self::Forbidden { .. } | Self::NamespaceTerminating { .. } => "Forbidden",
            Self::Unauthorized => "Unauthorized",
            Self::Expired { .. } => "Expired",
            Self::TooLarge { .. } => "Timeout",
            Self::BadRequest(_) => "BadRequest",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::TooLong { .. } => "RequestEntityTooLarge",
        }
    }

    /// The `Status` object.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code(),
        });
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. }
            | Self::Forbidden { resource, name, .. } => Some(about(resource, resource.plural(), name)),
            Self::NamespaceTerminating { resource, name, namespace } => {
                let mut details = about(resource, resource.plural(), name);
                let message = format!("namespace {namespace} is being terminated");
                details["causes"] =
                    json!([{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]);
                Some(details)
            }
            Self::Invalid { resource, kind, name, causes } => {
                let mut details = about(resource, kind, name);
                let cause =
                    |c: &Cause| json!({"reason": c.reason.code(), "message": c.text(), "field": c.field.clone()});
                details["causes"] = causes.iter().map(cause).collect();
                Some(details)
            }
            Self::TooLarge { .. } => Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
            Self::NoSuchResource => Some(json!({})),
            Self::Unauthorized
            | Self::Expired { .. }
            | Self::BadRequest(_)
            | Self::NotAcceptable(_)
            | Self::UnsupportedMediaType(_)
            | Self::MethodNotAllowed
            | Self::TooLong { .. } => None,
        }
    }
}

fn about(resource: &Resource, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !resource.group().is_empty() {
        details["group"] = json!(resource.group());
    }
    details
}

fn group_suffix(resource: &Resource) -> String {
    if resource.group().is_empty() { String::new() } else { format!(".{}", resource.group()) }
}

fn quoted(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("\"{name}\" ") }
}

fn join(causes: &[Cause]) -> String {
    let one = |cause: &Cause| format!("{}: {}", cause.field, cause.text());
    match causes {
        [] => "no cause known".to_owned(),
        [cause] => one(cause),
        causes => format!("[{}]", causes.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}
