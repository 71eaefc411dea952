//! The calm: whoever wants an address and could have one has it.

use vpc_agent::{CloudUse, FailureClass, Refusal};

use vpc_model::Time;

use crate::audit::Fault;
use crate::kubelet::{Pod, PodState};
use crate::node::Node;
use crate::settled::expected;
use crate::world::{NodeAt, World};

impl World {
    /// Pods that are not served although all has been well for long, and no lasting cause stands in the way.
    #[must_use]
    pub fn unserved(&mut self) -> Vec<Fault> {
        let survey = self.survey();
        let mut found = Vec::new();
        for (index, own) in self.nodes.iter().enumerate() {
            let node = NodeAt(index);
            if own.agent().is_none() {
                found.push(Fault::Unserved { node, pod: "of all".to_owned(), why: "no daemon runs".to_owned() });
            }
            // By what EC2 has, nobody who waits can be served: what the last of many refusals named may have been the next attempt.
            let nothing = self.rules_and_load(&survey, node);
            let nothing = nothing.is_some_and(|(rules, load)| *expected(&rules, &load).waiting.end() > 0);
            for (name, pod) in own.pods.iter().filter(|(_, pod)| !matches!(pod.state, PodState::Running { .. })) {
                // With custom networking a node that has no ENI for pods, and may not or can not make one, is not ready for any.
                if !own.conflist && pod.wanted && own.config.placing.custom.is_some() && can_not_grow(own) {
                    continue;
                }
                if let Err(why) = stands(pod)
                    && !(nothing && pod.wanted && !pod.refusals.is_empty())
                {
                    found.push(Fault::Unserved { node, pod: name.clone(), why });
                }
            }
        }
        found
    }

    /// Changes a node asked for since it came to rest. A subnet that had nothing when it was last asked is asked again whenever the
    /// longest pause is over.
    #[must_use]
    pub fn not_steady(&self, node: NodeAt, since: Time) -> Option<Fault> {
        let own = self.nodes.get(node.0)?;
        let thirsty = own.audit.heard.lacks_addresses();
        let rounds = usize::try_from(self.now.since(since).0 / FailureClass::LONGEST.0 + 1).unwrap_or(usize::MAX);
        let asked = self.requests(node, since, true);
        // Where all places are taken by single addresses, one makes place for the prefix that is asked for.
        let place = own.audit.heard.lacks_prefixes();
        let again = |action: &str| match action {
            "AssignPrivateIpAddresses" | "CreateNetworkInterface" => true,
            "UnassignPrivateIpAddresses" => place,
            _ => false,
        };
        // One on an ENI that is there, and one on a new ENI: prefixes first, and then single addresses.
        let most = rounds.saturating_mul(if place { 5 } else { 2 });
        let excused = thirsty && asked.len() <= most && asked.iter().all(|action| again(action));
        let action = asked.first().filter(|_| !excused)?;
        Some(Fault::NotSteady { node, action })
    }
}

fn can_not_grow(own: &Node) -> bool {
    let full = own.guest_enis().count() >= own.config.target.max_enis as usize;
    full || !own.config.cloud.may_change() || own.audit.heard.lacks_addresses()
}

/// Whether what a pod waits for is something that does not pass by itself.
fn stands(pod: &Pod) -> Result<(), String> {
    if !pod.wanted {
        return Err(format!("it is to go, and is still {:?}", pod.state));
    }
    match pod.refusals.last() {
        Some(Refusal::Full { .. } | Refusal::SubnetExhausted { .. } | Refusal::Fragmented { .. }) => Ok(()),
        Some(Refusal::NoPlace { why: vpc_agent::NoPlace::AllRefused { .. }, .. }) => Ok(()),
        Some(Refusal::CloudOff { allowed: CloudUse::Off | CloudUse::ReadOnly, .. }) => Ok(()),
        last => Err(format!("{:?} after {last:?}", pod.state)),
    }
}
