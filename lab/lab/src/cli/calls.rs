//! `vpc-lab calls`: what was asked of EC2, of IMDS and of the Kubernetes API.

use std::fmt::Write as _;

use anyhow::bail;
use lab_kube::{KubeCall, KubeCallFilter};
use lab_serve::{CallRecord, Service};

use super::{print, show, to_json};
use crate::lab::Lab;

/// Which calls are shown, and how.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) json: bool,
    pub(super) node: Option<String>,
    pub(super) action: Option<String>,
    pub(super) errors: bool,
    pub(super) kubernetes: bool,
}

pub(super) fn run(lab: &Lab, wanted: &Wanted) -> anyhow::Result<()> {
    if wanted.kubernetes {
        let filter = KubeCallFilter { errors_only: wanted.errors, ..KubeCallFilter::default() };
        let mut calls = lab.kube_calls(&filter)?;
        calls.retain(|call| wanted.action.as_ref().is_none_or(|pattern| fits(pattern, &call.verb)));
        return print(&if wanted.json { to_json(&calls)? } else { kubernetes(&calls) });
    }
    let mut calls = lab.calls()?;
    if let Some(node) = &wanted.node {
        let nodes = lab.status()?.nodes;
        // One that is gone may have called.
        let called = calls.iter().any(|call| call.caller_name.as_ref() == Some(node));
        if !called && nodes.iter().all(|known| known.name != *node) {
            let known: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            bail!("there is no node `{node}`, and no call of one; there are: {}", known.join(", "));
        }
    }
    calls.retain(|call| wanted.has(call));
    print(&if wanted.json { to_json(&calls)? } else { show::calls(&calls) })
}

impl Wanted {
    fn has(&self, call: &CallRecord) -> bool {
        // What the lab itself did is nobody's call.
        let refused = call.service != Service::Lab && !(200..400).contains(&call.status);
        self.node.as_ref().is_none_or(|node| call.caller_name.as_ref() == Some(node))
            && self.action.as_ref().is_none_or(|pattern| fits(pattern, &call.action))
            && (!self.errors || refused)
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => match text.strip_prefix(head) {
            None => false,
            Some(tail) => tail
                .char_indices()
                .map(|(at, _)| at)
                .chain([tail.len()])
                .any(|at| fits(rest, tail.get(at..).unwrap_or_default())),
        },
    }
}

/// Every call of the Kubernetes API on a line.
fn kubernetes(calls: &[KubeCall]) -> String {
    let mut out = String::new();
    for call in calls {
        let who = call.user.as_deref().unwrap_or("-");
        // `system:serviceaccount:kube-system:aws-node` as kubectl's users know it.
        let who = who.strip_prefix("system:serviceaccount:").unwrap_or(who);
        let what = match (call.resource.as_str(), call.namespace.as_str(), call.name.as_str()) {
            ("", _, _) => call.path.clone(),
            (resource, "", "") => resource.to_owned(),
            (resource, "", name) => format!("{resource} {name}"),
            (resource, namespace, "") => format!("{resource} in {namespace}"),
            (resource, namespace, name) => format!("{resource} {namespace}/{name}"),
        };
        let reason = call.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "{:>9.3} s  {who:<22} {:<6} {what}  -> {}{reason} ({:.1} ms)",
            call.at_ms as f64 / 1000.0,
            call.verb,
            call.status,
            call.took_us as f64 / 1000.0
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_stars_for_any_text() {
        for (pattern, text, wanted) in [
            ("Describe*", "DescribeSubnets", true),
            ("*Interface*", "CreateNetworkInterface", true),
            ("Describe", "DescribeSubnets", false),
            ("*", "", true),
            ("D*s*s", "DescribeSubnets", true),
            ("D*x", "DescribeSubnets", false),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn calls_of_kubernetes_say_who_did_what_to_which_object() {
        let call = |verb: &str, resource: &str, namespace: &str, name: &str, status, reason: Option<&str>| KubeCall {
            number: 1,
            at_ms: 1500,
            took_us: 1200,
            user: Some("system:serviceaccount:kube-system:aws-node".to_owned()),
            user_agent: String::new(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: "/version".to_owned(),
            status,
            reason: reason.map(str::to_owned),
        };
        let text = kubernetes(&[
            call("list", "pods", "", "", 200, None),
            call("patch", "pods", "default", "web", 409, Some("Conflict")),
            call("get", "", "", "", 200, None),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "    1.500 s  kube-system:aws-node   list   pods  -> 200 (1.2 ms)");
        assert!(lines[1].contains("patch  pods default/web  -> 409 Conflict"), "{text}");
        assert!(lines[2].contains("get    /version  -> 200"), "{text}");
    }
}
