//! Which notices become events of Kubernetes. Most do not: an event is for what somebody has to do something about.

use crate::{About, CloudFailure, ClusterEvent, FailureClass, Notice, Refusal};

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
            Self::NoPrefixes => on_node("PrefixesUnavailable", "ec2:AssignPrivateIpAddresses"),
            Self::WithoutPrefixes { .. } => on_node("PrefixesUnavailable", "HoldSingleAddresses"),
            Self::Disagreement { .. } | Self::Unbacked { .. } => on_node("AddressDisagreement", "KeepWhatIsThere"),
            Self::HostFailed { .. } => on_node("HostNetworkFailed", "ConfigureHost"),
            Self::CheckpointFailed { .. } => on_node("CheckpointFailed", "WriteCheckpoint"),
            Self::Refused { refusal: Refusal::Warming { .. } | Refusal::ShuttingDown | Refusal::Cancelled, .. } => None,
            // What the cloud refuses has its own event, in which no pod is named.
            Self::Refused { refusal: Refusal::Cloud { failure, .. }, .. } => of_failure(failure),
            Self::Refused { .. } => on_node("NoAddressForPod", "AssignAddress"),
            _ => None,
        }
    }
}

fn of_failure(failure: &CloudFailure) -> Option<ClusterEvent> {
    let call = format!("ec2:{}", failure.action);
    let (about, reason, way_out) = match failure.class {
        FailureClass::Unauthorized => {
            (About::OwnPod, "MissingIAMPermissions", format!("the node's role must allow {call}: see {PERMISSIONS}"))
        }
        FailureClass::EniLimit => {
            (About::Node, "EniLimitExceeded", "raise the account's quota of network interfaces".to_owned())
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

    fn failed(class: FailureClass) -> Notice {
        let failure = CloudFailure {
            class,
            action: "CreateNetworkInterface".into(),
            code: "UnauthorizedOperation".into(),
            message: "You are not authorized".into(),
        };
        Notice::CloudFailed { what: "an ENI".into(), failure, retry_in: Some(1000) }
    }

    #[test]
    fn a_missing_permission_is_told_as_the_reference_tells_it() {
        let event = failed(FailureClass::Unauthorized).event().unwrap();
        assert_eq!((event.about, event.reason, event.warning), (About::OwnPod, "MissingIAMPermissions", true));
        assert_eq!(event.action, "ec2:CreateNetworkInterface");
        assert!(event.note.contains("You are not authorized") && event.note.contains("iam-policy"), "{}", event.note);
        assert_eq!(failed(FailureClass::Throttled).event(), None);
    }
}
