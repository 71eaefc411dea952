//! A node as the API shows it: what a kubelet of EKS registers and reports.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// What the kubelet says it is: a release of Kubernetes that the API's behaviour is modelled on.
pub(crate) const KUBELET_VERSION: &str = "v1.34.4";

/// What the API is told of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) instance: String,
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) zone_id: String,
    pub(crate) region: String,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) max_pods: u32,
    pub(crate) health: Health,
}

/// Whether pods can be put on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Ready,
    /// Its network is not configured.
    NoNetwork,
    /// Nobody has heard of it since it lost power.
    Silent,
}

impl NodeFacts {
    /// The object as it is registered.
    pub(crate) fn object(&self) -> Value {
        json!({
            "metadata": {"name": self.name, "labels": {
                "beta.kubernetes.io/arch": arch(),
                "beta.kubernetes.io/instance-type": self.instance_type,
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": arch(),
                "kubernetes.io/hostname": self.name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": self.instance_type,
                "topology.k8s.aws/zone-id": self.zone_id,
                "topology.kubernetes.io/region": self.region,
                "topology.kubernetes.io/zone": self.zone,
            }},
            "spec": {"providerID": format!("aws:///{}/{}", self.zone, self.instance)},
        })
    }

    /// What the kubelet reports. `since` is the time of its last change of health.
    pub(crate) fn status(&self, since: &str) -> Value {
        let (ready, reason, message) = match self.health {
            Health::Ready => ("True", "KubeletReady", "kubelet is posting ready status"),
            Health::NoNetwork => (
                "False",
                "KubeletNotReady",
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized",
            ),
            Health::Silent => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
        };
        let room = json!({"pods": self.max_pods.to_string()});
        let address = self.address.map(|address| json!({"type": "InternalIP", "address": address.to_string()}));
        let hostname = json!({"type": "Hostname", "address": self.name});
        json!({
            "capacity": room,
            "allocatable": room,
            "addresses": address.into_iter().chain([hostname]).collect::<Vec<_>>(),
            "conditions": [{
                "type": "Ready", "status": ready, "reason": reason, "message": message,
                "lastHeartbeatTime": since, "lastTransitionTime": since,
            }],
            "nodeInfo": {
                "architecture": arch(), "operatingSystem": "linux", "kubeletVersion": KUBELET_VERSION,
                "kubeProxyVersion": KUBELET_VERSION, "containerRuntimeVersion": "lab://1", "kernelVersion": kernel(),
                "osImage": "lab", "bootID": self.instance, "machineID": self.instance, "systemUUID": self.instance,
            },
        })
    }
}

/// As Go and Kubernetes name it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}
