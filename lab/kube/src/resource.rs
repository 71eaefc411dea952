//! Which resources there are: those that are built in, and those that CustomResourceDefinitions add.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::object;

/// A collection of objects as clients address it: group, version and plural name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    group: Cow<'static, str>,
    version: Cow<'static, str>,
    plural: Cow<'static, str>,
}

/// Writes it as Kubernetes does: `pods`, `leases.coordination.k8s.io`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}

macro_rules! resources {
    ($($name:ident: $group:literal $version:literal $plural:literal;)*) => {
        impl Resource {
            $(
                #[doc = concat!("`", $plural, "` of `", $group, "/", $version, "`.")]
                pub const $name: Self = Self::fixed($group, $version, $plural);
            )*
        }
    };
}

resources! {
    NODES: "" "v1" "nodes";
    PODS: "" "v1" "pods";
    NAMESPACES: "" "v1" "namespaces";
    CONFIG_MAPS: "" "v1" "configmaps";
    SECRETS: "" "v1" "secrets";
    EVENTS: "" "v1" "events";
    SERVICES: "" "v1" "services";
    ENDPOINTS: "" "v1" "endpoints";
    SERVICE_ACCOUNTS: "" "v1" "serviceaccounts";
    NEW_EVENTS: "events.k8s.io" "v1" "events";
    LEASES: "coordination.k8s.io" "v1" "leases";
    ENDPOINT_SLICES: "discovery.k8s.io" "v1" "endpointslices";
    DAEMON_SETS: "apps" "v1" "daemonsets";
    CRDS: "apiextensions.k8s.io" "v1" "customresourcedefinitions";
    ENI_CONFIGS: "crd.k8s.amazonaws.com" "v1alpha1" "eniconfigs";
    CNI_NODES: "vpcresources.k8s.aws" "v1alpha1" "cninodes";
    POLICY_ENDPOINTS: "networking.k8s.aws" "v1alpha1" "policyendpoints";
}

impl Resource {
    pub(crate) const fn fixed(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), plural: Cow::Borrowed(plural) }
    }

    /// Any resource; the core group is `""`.
    pub fn new(group: impl Into<String>, version: impl Into<String>, plural: impl Into<String>) -> Self {
        Self { group: Cow::Owned(group.into()), version: Cow::Owned(version.into()), plural: Cow::Owned(plural.into()) }
    }

    /// The API group; empty: the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The version within the group.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The plural name, as in paths.
    #[must_use]
    pub fn plural(&self) -> &str {
        &self.plural
    }

    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// What its objects are stored under. Versions of a group share their objects, and so do both kinds of events.
    pub(crate) fn storage(&self) -> String {
        if *self == Self::NEW_EVENTS { Self::EVENTS.to_string() } else { self.to_string() }
    }
}

/// What the server knows about a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// How it is addressed.
    pub resource: Resource,
    /// `kind` of its objects.
    pub kind: String,
    /// Its name in the singular.
    pub singular: String,
    /// Abbreviations that kubectl takes.
    pub short_names: Vec<String>,
    /// Its objects live in namespaces.
    pub namespaced: bool,
    /// `status` is written by the subresource of that name, and by nothing else.
    pub status: bool,
    /// From a CustomResourceDefinition: patches by strategic merge are refused, updates must name a version.
    pub custom: bool,
    /// OpenAPI schema of a custom resource.
    pub schema: Option<Value>,
    /// Columns of a custom resource beside name and age.
    pub columns: Vec<Value>,
}

/// Kind, singular, short names, namespaced, status subresource.
type Row = (Resource, &'static str, &'static str, &'static [&'static str], bool, bool);

static BUILT_IN: [Row; 14] = [
    (Resource::CONFIG_MAPS, "ConfigMap", "configmap", &["cm"], true, false),
    (Resource::ENDPOINTS, "Endpoints", "endpoints", &["ep"], true, false),
    (Resource::EVENTS, "Event", "event", &["ev"], true, false),
    (Resource::NAMESPACES, "Namespace", "namespace", &["ns"], false, true),
    (Resource::NODES, "Node", "node", &["no"], false, true),
    (Resource::PODS, "Pod", "pod", &["po"], true, true),
    (Resource::SECRETS, "Secret", "secret", &[], true, false),
    (Resource::SERVICE_ACCOUNTS, "ServiceAccount", "serviceaccount", &["sa"], true, false),
    (Resource::SERVICES, "Service", "service", &["svc"], true, true),
    (Resource::CRDS, "CustomResourceDefinition", "customresourcedefinition", &["crd", "crds"], false, true),
    (Resource::DAEMON_SETS, "DaemonSet", "daemonset", &["ds"], true, true),
    (Resource::LEASES, "Lease", "lease", &[], true, false),
    (Resource::ENDPOINT_SLICES, "EndpointSlice", "endpointslice", &[], true, false),
    (Resource::NEW_EVENTS, "Event", "event", &["ev"], true, false),
];

/// All resources that are served at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    definitions: Vec<Definition>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { definitions: BUILT_IN.iter().map(built_in).collect() }
    }
}

impl Registry {
    pub(crate) fn find(&self, resource: &Resource) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.resource == *resource)
    }

    pub(crate) fn all(&self) -> &[Definition] {
        &self.definitions
    }

    /// Serves what a CustomResourceDefinition defines, in place of what one of its name defined before.
    pub(crate) fn define(&mut self, crd: &Value) {
        self.forget(crd);
        self.definitions.extend(defined(crd));
    }

    /// Serves it no longer.
    pub(crate) fn forget(&mut self, crd: &Value) {
        let (group, plural) = names(crd);
        self.definitions
            .retain(|known| !(known.custom && known.resource.group() == group && known.resource.plural() == plural));
    }
}

fn built_in((resource, kind, singular, short_names, namespaced, status): &Row) -> Definition {
    Definition {
        resource: resource.clone(),
        kind: (*kind).to_owned(),
        singular: (*singular).to_owned(),
        short_names: short_names.iter().map(|name| (*name).to_owned()).collect(),
        namespaced: *namespaced,
        status: *status,
        custom: false,
        schema: None,
        columns: Vec::new(),
    }
}

fn names(crd: &Value) -> (&str, &str) {
    (object::text(crd, "/spec/group"), object::text(crd, "/spec/names/plural"))
}

/// One definition for each version that is served.
fn defined(crd: &Value) -> Vec<Definition> {
    let (group, plural) = names(crd);
    let list = |at: &str| crd.pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
    let kind = object::text(crd, "/spec/names/kind").to_owned();
    let singular = match object::text(crd, "/spec/names/singular") {
        "" => kind.to_lowercase(),
        singular => singular.to_owned(),
    };
    let short_names: Vec<String> =
        list("/spec/names/shortNames").iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    let served = list("/spec/versions").into_iter().filter(|version| version["served"] == true);
    served
        .map(|version| Definition {
            resource: Resource::new(group, object::text(&version, "/name"), plural),
            kind: kind.clone(),
            singular: singular.clone(),
            short_names: short_names.clone(),
            namespaced: object::text(crd, "/spec/scope") == "Namespaced",
            status: version.pointer("/subresources/status").is_some(),
            custom: true,
            schema: version.pointer("/schema/openAPIV3Schema").cloned(),
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        })
        .collect()
}
