//! The calm: whoever wants an address and could have one has it.

use vpc_agent::{CloudUse, Refusal};

use crate::audit::Fault;
use crate::kubelet::{Pod, PodState};
use crate::world::{NodeAt, World};

impl World {
    /// Pods that are not served although all has been well for long, and no lasting cause stands in the way.
    #[must_use]
    pub fn unserved(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        for (index, own) in self.nodes.iter().enumerate() {
            let node = NodeAt(index);
            if own.agent().is_none() {
                found.push(Fault::Unserved { node, pod: "of all".to_owned(), why: "no daemon runs".to_owned() });
            }
            for (name, pod) in own.pods.iter().filter(|(_, pod)| !matches!(pod.state, PodState::Running { .. })) {
                if let Err(why) = stands(pod) {
                    found.push(Fault::Unserved { node, pod: name.clone(), why });
                }
            }
        }
        found
    }
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
