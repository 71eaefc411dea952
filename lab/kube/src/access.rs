//! Who calls, and what he may do: everything, unless a switch says otherwise.

use crate::error::KubeError;
use crate::resource::Resource;

/// Somebody the server knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// `system:serviceaccount:kube-system:aws-node`.
    pub name: String,
    /// Groups he belongs to.
    pub groups: Vec<String>,
}

impl User {
    /// The user behind an administrator's kubeconfig.
    #[must_use]
    pub fn admin() -> Self {
        Self::in_groups("kubernetes-admin", &["system:masters"])
    }

    /// A service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        Self::in_groups(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &of_namespace],
        )
    }

    /// A node's kubelet.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self::in_groups(&format!("system:node:{name}"), &["system:nodes"])
    }

    fn in_groups(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&["system:authenticated"]).map(|group| (*group).to_owned()).collect();
        Self { name: name.to_owned(), groups }
    }
}

/// A switch: somebody, or everybody, is refused something with `403 Forbidden`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or `*`.
    pub verb: String,
    /// As kubectl writes it: `pods`, `pods/status`, `cninodes.vpcresources.k8s.aws`, or `*`. Without a subresource it
    /// is about the object alone; `pods/*` is about all its subresources.
    pub resource: String,
    /// Name of the user it is about; `None`: all of them.
    #[serde(default)]
    pub user: Option<String>,
}

impl Denial {
    /// Refuses a verb on a resource to everybody.
    pub fn new(verb: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { verb: verb.into(), resource: resource.into(), user: None }
    }

    /// Refuses it to one user alone.
    #[must_use]
    pub fn to(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    fn hits(&self, asked: &Attributes<'_>) -> bool {
        (self.verb == "*" || self.verb == asked.verb)
            && self.user.as_ref().is_none_or(|user| *user == asked.user.name)
            && (self.resource == "*" || is_resource(&self.resource, asked))
    }
}

/// One rule of a ClusterRole, with the names of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Groups; `""` is the core group, `*` all.
    pub api_groups: Vec<String>,
    /// Plural names, with a subresource after a slash; `*`: all.
    pub resources: Vec<String>,
    /// Verbs; `*`: all.
    pub verbs: Vec<String>,
}

impl PolicyRule {
    fn allows(&self, asked: &Attributes<'_>) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let resource = match asked.subresource {
            "" => asked.resource.plural().to_owned(),
            subresource => format!("{}/{subresource}", asked.resource.plural()),
        };
        has(&self.verbs, asked.verb) && has(&self.api_groups, asked.resource.group()) && has(&self.resources, &resource)
    }
}

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'a str,
    pub(crate) resource: &'a Resource,
    /// Empty: the object itself.
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// The switches.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) denials: Vec<Denial>,
    /// Users who may do only what some rule allows.
    pub(crate) restricted: Vec<(String, Vec<PolicyRule>)>,
}

impl Access {
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        let restricted = self.restricted.iter().find(|(user, _)| *user == asked.user.name);
        restricted.is_none_or(|(_, rules)| rules.iter().any(|rule| rule.allows(asked)))
            && !self.denials.iter().any(|denial| denial.hits(asked))
    }

    pub(crate) fn check(&self, asked: &Attributes<'_>) -> Result<(), KubeError> {
        if self.allows(asked) {
            return Ok(());
        }
        let place = if asked.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", asked.namespace)
        };
        let what = match asked.subresource {
            "" => asked.resource.plural().to_owned(),
            subresource => format!("{}/{subresource}", asked.resource.plural()),
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{what}\" in API group \"{}\" {place}",
            asked.user.name,
            asked.verb,
            asked.resource.group()
        );
        Err(KubeError::Forbidden { resource: asked.resource.clone(), name: asked.name.to_owned(), why: why.into() })
    }
}

fn is_resource(written: &str, asked: &Attributes<'_>) -> bool {
    let (written, subresource) = written.split_once('/').unwrap_or((written, ""));
    written == asked.resource.to_string()
        && (subresource == asked.subresource || (subresource == "*" && !asked.subresource.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(access: &Access, user: &User, verb: &str, resource: &Resource, subresource: &str) -> bool {
        access.allows(&Attributes { user, verb, resource, subresource, namespace: "", name: "" })
    }

    #[test]
    fn a_denial_is_about_its_verb_resource_and_user_alone() {
        let (node, admin) = (User::service_account("kube-system", "aws-node"), User::admin());
        let denial = Denial::new("patch", "cninodes.vpcresources.k8s.aws").to(&*node.name);
        let access = Access { denials: vec![denial], ..Access::default() };
        assert!(!allowed(&access, &node, "patch", &Resource::CNI_NODES, ""));
        assert!(allowed(&access, &node, "patch", &Resource::CNI_NODES, "status"));
        assert!(allowed(&access, &node, "get", &Resource::CNI_NODES, ""));
        assert!(allowed(&access, &node, "patch", &Resource::PODS, ""));
        assert!(allowed(&access, &admin, "patch", &Resource::CNI_NODES, ""));
        let access = Access { denials: vec![Denial::new("*", "pods/*")], ..Access::default() };
        assert!(!allowed(&access, &admin, "update", &Resource::PODS, "status"));
        assert!(allowed(&access, &admin, "update", &Resource::PODS, ""));
    }

    #[test]
    fn who_is_restricted_may_do_what_his_rules_say() {
        let node = User::service_account("kube-system", "aws-node");
        let rules: Vec<PolicyRule> = serde_json::from_str(
            r#"[{"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}]"#,
        )
        .unwrap();
        let access = Access { restricted: vec![(node.name.clone(), rules)], ..Access::default() };
        assert!(allowed(&access, &node, "create", &Resource::NEW_EVENTS, ""));
        assert!(!allowed(&access, &node, "delete", &Resource::EVENTS, ""));
        assert!(!allowed(&access, &node, "get", &Resource::PODS, ""));
        assert!(allowed(&access, &User::admin(), "get", &Resource::PODS, ""));
    }
}
