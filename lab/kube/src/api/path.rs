//! What a path and its query ask for.

use crate::error::{Cause, CauseReason, KubeError};
use crate::resource::Resource;

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/healthz`, `/livez`, `/readyz` and what lies below them.
    Health,
    /// `/version`.
    Version,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`: group and version.
    Resources(String, String),
    /// `/openapi/v2`.
    OldOpenApi,
    /// `/openapi/v3`, or the document of a group and version below it.
    OpenApi(Option<(String, String)>),
    /// A collection, an object, or a subresource.
    Objects(Place),
    /// Nothing we know.
    Unknown,
}

/// Where in the tree of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) resource: Resource,
    /// Empty: all namespaces, or the cluster.
    pub(crate) namespace: String,
    /// Empty: the collection.
    pub(crate) name: String,
    /// Empty: the object itself.
    pub(crate) subresource: String,
}

impl Place {
    /// As it is written in records: `pods`, `pods/status`.
    pub(crate) fn label(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.to_string(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Target {
    /// Reads a path.
    pub(crate) fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Self::Health,
            ["version"] => Self::Version,
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["api", version] => Self::Resources(String::new(), (*version).to_owned()),
            ["apis", group, version] => Self::Resources((*group).to_owned(), (*version).to_owned()),
            ["api", version, rest @ ..] => place("", version, rest),
            ["apis", group, version, rest @ ..] => place(group, version, rest),
            ["openapi", "v2"] => Self::OldOpenApi,
            ["openapi", "v3"] => Self::OpenApi(None),
            ["openapi", "v3", "api", version] => Self::OpenApi(Some((String::new(), (*version).to_owned()))),
            ["openapi", "v3", "apis", group, version] => {
                Self::OpenApi(Some(((*group).to_owned(), (*version).to_owned())))
            }
            _ => Self::Unknown,
        }
    }
}

fn place(group: &str, version: &str, rest: &[&str]) -> Target {
    let (namespace, rest) = match rest {
        // A namespace is itself an object; what comes after it lies in it, but for its own subresources.
        ["namespaces", name, "status"] => ("", &["namespaces", *name, "status"][..]),
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Target::Unknown,
    };
    Target::Objects(Place {
        resource: Resource::new(group, version, plural),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self { pairs: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect() }
    }

    /// The first value of a parameter; empty if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A flag: `true`, `1`, or without a value.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, value)| known == name && matches!(value.as_str(), "" | "1" | "true" | "True"))
    }

    /// A flag that is set or not set, or `None` if it is not there.
    pub(crate) fn tri(&self, name: &str) -> Option<bool> {
        self.pairs.iter().any(|(known, _)| known == name).then(|| self.flag(name))
    }

    /// A number; 0 if there is none.
    pub(crate) fn number(&self, name: &str) -> Result<u64, KubeError> {
        match self.get(name) {
            "" => Ok(0),
            text => text.parse().map_err(|_| {
                KubeError::BadRequest(format!("`{name}` is `{text}`, expected a number that is not negative"))
            }),
        }
    }

    /// `dryRun=All`.
    pub(crate) fn dry_run(&self, resource: &Resource) -> Result<bool, KubeError> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(option_error(
                resource,
                Cause::new("dryRun", CauseReason::NotSupported, format!("\"{other}\": supported values: \"All\"")),
            )),
        }
    }
}

/// Options that do not go together.
pub(crate) fn option_error(resource: &Resource, cause: Cause) -> KubeError {
    let resource = Resource::new("meta.k8s.io", resource.version().to_owned(), resource.plural().to_owned());
    KubeError::Invalid {
        resource: Box::new(resource),
        kind: "ListOptions".to_owned(),
        name: String::new(),
        causes: vec![cause],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(resource: Resource, namespace: &str, name: &str, subresource: &str) -> Target {
        let [namespace, name, subresource] = [namespace, name, subresource].map(str::to_owned);
        Target::Objects(Place { resource, namespace, name, subresource })
    }

    #[test]
    fn paths_lead_where_kubernetes_says() {
        for (path, target) in [
            ("/api/v1/nodes", objects(Resource::NODES, "", "", "")),
            ("/api/v1/nodes/n1/status", objects(Resource::NODES, "", "n1", "status")),
            ("/api/v1/namespaces", objects(Resource::NAMESPACES, "", "", "")),
            ("/api/v1/namespaces/a", objects(Resource::NAMESPACES, "", "a", "")),
            ("/api/v1/namespaces/a/status", objects(Resource::NAMESPACES, "", "a", "status")),
            ("/api/v1/namespaces/a/pods/p/binding", objects(Resource::PODS, "a", "p", "binding")),
            ("/apis/coordination.k8s.io/v1/namespaces/a/leases/l", objects(Resource::LEASES, "a", "l", "")),
            ("/apis/crd.k8s.amazonaws.com/v1alpha1/eniconfigs", objects(Resource::ENI_CONFIGS, "", "", "")),
            ("/apis/apps/v1/", Target::Resources("apps".into(), "v1".into())),
            ("/openapi/v2", Target::OldOpenApi),
            ("/openapi/v3/api/v1", Target::OpenApi(Some((String::new(), "v1".into())))),
            ("/readyz/ping", Target::Health),
            ("/", Target::Unknown),
            ("/api/v1/pods/a/b/c", Target::Unknown),
        ] {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }

    #[test]
    fn parameters_are_read() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch&limit=500&sendInitialEvents=false&dryRun=All");
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert!(query.flag("watch"));
        assert_eq!(query.tri("sendInitialEvents"), Some(false));
        assert_eq!(query.tri("other"), None);
        assert_eq!(query.number("limit"), Ok(500));
        assert_eq!(query.dry_run(&Resource::PODS), Ok(true));
        assert!(Query::parse("limit=-1").number("limit").is_err());
    }
}
