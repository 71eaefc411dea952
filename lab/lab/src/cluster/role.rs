//! What the daemon set's service account may do: the ClusterRole that the CNI's chart installs, and nothing else.

use lab_kube::PolicyRule;

/// Group, resources, verbs.
type Rule = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const READ: &[&str] = &["get", "list", "watch"];

const RULES: [Rule; 7] = [
    (&["crd.k8s.amazonaws.com"], &["eniconfigs"], READ),
    (&[""], &["namespaces", "nodes"], READ),
    // The chart adds `patch` where pods are annotated; it goes by the text of a variable, the lab gives it always.
    (&[""], &["pods"], &["get", "list", "watch", "patch"]),
    (&["", "events.k8s.io"], &["events"], &["create", "patch", "list"]),
    (&["networking.k8s.aws"], &["policyendpoints", "clusterpolicyendpoints"], READ),
    (&["networking.k8s.aws"], &["policyendpoints/status", "clusterpolicyendpoints/status"], &["get"]),
    (&["vpcresources.k8s.aws"], &["cninodes"], &["get", "list", "watch", "patch"]),
];

/// The rules.
pub(super) fn of_the_daemon_set() -> Vec<PolicyRule> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let rule = |(groups, resources, verbs): &Rule| PolicyRule {
        api_groups: texts(groups),
        resources: texts(resources),
        verbs: texts(verbs),
    };
    RULES.iter().map(rule).collect()
}
