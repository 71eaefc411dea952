//! Which notices become events of Kubernetes. Most do not: an event is for what somebody has to do something about.

use vpc_model::PodRef;

use crate::{About, CloudFailure, ClusterEvent, FailureClass, Notice, Refusal, Report};

/// The reference's document on what a node's role must allow.
const PERMISSIONS: &str = "https://github.com/aws/amazon-vpc-cni-k8s/blob/master/docs/iam-policy.md";

impl Notice {
    /// The event that says it in Kubernetes; `None`: it is for the log alone.
    #[must_use]
    pub fn event(&self) -> Option<ClusterEvent> {
        let on_node = |reason, action: &str| {
            let (action, note) = (action.to_owned(), self.to_string());
            Some(ClusterEvent { about: About::Node, warning: true, reason, action, note })
        };
        match self {
            Self::CloudFailed { failure, .. } => of_failure(failure),
            Self::Place(news) => news.event(),
            Self::WithoutPrefixes { .. } => on_node("PrefixesUnavailable", "HoldSingleAddresses"),
            Self::Disagreement { .. } | Self::Unbacked { .. } => on_node("AddressDisagreement", "KeepWhatIsThere"),
            Self::HostFailed { .. } => on_node("HostNetworkFailed", "ConfigureHost"),
            Self::CheckpointFailed { .. } => on_node("CheckpointFailed", "WriteCheckpoint"),
            Self::Refused { refusal: Refusal::Warming { .. } | Refusal::ShuttingDown | Refusal::Cancelled, .. } => None,
            Self::Refused { refusal, pod, .. } => Some(ClusterEvent {
                about: of_pod(pod),
                warning: true,
                reason: refusal.reason(),
                action: "AssignAddress".to_owned(),
                note: format!("no address for the pod: {refusal}"),
            }),
            Self::Reported { pod, report: report @ Report::NoPolicyAgent, .. } => Some(ClusterEvent {
                about: of_pod(pod),
                warning: true,
                reason: "NoNetworkPolicyAgent",
                action: "EnforceNetworkPolicies".to_owned(),
                note: format!("the pod {report}"),
            }),
            _ => None,
        }
    }
}

fn of_pod(pod: &PodRef) -> About {
    if pod.name.is_empty() { About::Node } else { About::Pod(pod.clone()) }
}

/// What EC2 refused, about the daemon or the node; in the words of the reference where it says the same.
fn of_failure(failure: &CloudFailure) -> Option<ClusterEvent> {
    let call = format!("ec2:{}", failure.action);
    let (about, reason, way_out) = match failure.class {
        // As the reference: for this code and no other.
        FailureClass::Unauthorized if failure.code == "UnauthorizedOperation" => {
            (About::OwnPod, "MissingIAMPermissions", format!("the node's role must allow {call}: see {PERMISSIONS}"))
        }
        FailureClass::GroupNotFound => (
            About::Node,
            "SecurityGroupUnknown",
            "name security groups that exist: in the node's ENIConfig, or on the primary ENI".to_owned(),
        ),
        FailureClass::EniLimit => {
            let way_out = "use a larger instance type, or raise the account's quota of network interfaces";
            (About::Node, "EniLimitExceeded", way_out.to_owned())
        }
        // Subnets are told of by whoever chooses them; the rest passes.
        _ => return None,
    };
    let note = format!("{}: {} ({}); {way_out}", failure.action, failure.message, failure.code);
    Some(ClusterEvent { about, warning: true, reason, action: call, note })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn failed(class: FailureClass, code: &str) -> Notice {
        let failure = CloudFailure {
            class,
            action: "CreateNetworkInterface".into(),
            code: code.into(),
            message: "You are not authorized".into(),
            lost_before: false,
        };
        Notice::CloudFailed { what: "an ENI".into(), failure, retry_in: Some(1000) }
    }

    #[test]
    fn a_missing_permission_is_told_as_the_reference_tells_it() {
        let event = failed(FailureClass::Unauthorized, "UnauthorizedOperation").event().unwrap();
        assert_eq!((event.about, event.reason, event.warning), (About::OwnPod, "MissingIAMPermissions", true));
        assert_eq!(event.action, "ec2:CreateNetworkInterface");
        assert!(event.note.contains("You are not authorized") && event.note.contains("iam-policy"), "{}", event.note);
        assert_eq!(failed(FailureClass::Throttled, "RequestLimitExceeded").event(), None);
        assert_eq!(failed(FailureClass::Unauthorized, "AuthFailure").event(), None, "the reference's condition");
    }

    #[test]
    fn a_refused_pod_has_an_event_of_its_own() {
        let pod = vpc_model::PodRef { namespace: "shop".into(), name: "web".into() };
        let key = vpc_model::SandboxKey { network: "n".into(), container: "c".into(), interface: "eth0".into() };
        let waited = vpc_model::Millis::seconds(15);
        let full = Refusal::Full { enis: 3, max_enis: 3, total: 27, held: 27, retired: 0, waited };
        let event = Notice::Refused { key: key.clone(), pod: pod.clone(), refusal: full }.event().unwrap();
        assert_eq!((event.about, event.reason), (About::Pod(pod.clone()), "AddressesUsedUp"));
        assert!(event.note.contains("all 27 addresses"), "{}", event.note);
        let ending = Notice::Refused { key, pod, refusal: Refusal::ShuttingDown };
        assert_eq!(ending.event(), None);
    }

    #[test]
    fn a_pod_without_network_policies_has_an_event_of_its_own() {
        let pod = PodRef { namespace: "shop".into(), name: "web".into() };
        let key = vpc_model::SandboxKey { network: "n".into(), container: "c".into(), interface: "eth0".into() };
        let report = Report::NoPolicyAgent;
        let event = Notice::Reported { key: key.clone(), pod: pod.clone(), report }.event().unwrap();
        assert_eq!((event.about, event.reason, event.warning), (About::Pod(pod), "NoNetworkPolicyAgent", true));
        assert!(event.note.starts_with("the pod starts without network policies"), "{}", event.note);
        let nameless = Notice::Reported { key, pod: PodRef::default(), report }.event().unwrap();
        assert_eq!(nameless.about, About::Node, "a sandbox somebody made by hand");
    }
}
