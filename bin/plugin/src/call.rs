//! One call of the runtime with everything it brought along, checked.

use std::time::{Duration, Instant};

use vpc_hostnet::LinkAlias;
use vpc_model::{LinkName, PodRef, SandboxKey, host_veth};
use vpc_wire::cni::{CniError, ErrorCode, Invocation, NetConf, PodArgs};

use crate::log::Log;

/// An ADD or a DEL.
pub(crate) struct Call {
    pub(crate) sandbox: SandboxKey,
    pub(crate) pod: PodRef,
    pub(crate) args: PodArgs,
    /// `CNI_NETNS`; DEL may come without.
    pub(crate) netns: Option<String>,
    /// `CNI_IFNAME`.
    pub(crate) pod_link: LinkName,
    /// Host end of the pod's pair.
    pub(crate) host_link: LinkName,
    pub(crate) netns_override: bool,
    pub(crate) conf: NetConf,
    pub(crate) log: Log,
    began: Instant,
}

impl Call {
    pub(crate) fn new(invocation: Invocation, conf: NetConf) -> Result<Self, CniError> {
        let args = PodArgs::parse(&invocation.args);
        let args = args.inspect_err(|error| Log::refused(&conf, invocation.command, error))?;
        let pod_link = invocation.interface.ok_or_else(|| {
            CniError::new(
                ErrorCode::BadEnvironment,
                "CNI_IFNAME is missing: expected the name of the container's interface",
            )
        })?;
        let sandbox =
            SandboxKey { network: conf.name.clone(), container: invocation.container, interface: pod_link.to_string() };
        let log = Log::open(&conf, invocation.command, &sandbox, &args.pod);
        Ok(Self {
            host_link: host_veth(&conf.veth_prefix, &args.pod),
            pod: args.pod.clone(),
            sandbox,
            args,
            netns: invocation.netns,
            pod_link,
            netns_override: invocation.netns_override,
            conf,
            log,
            began: Instant::now(),
        })
    }

    /// What is left of a budget that began with the call.
    pub(crate) fn left_of(&self, budget: Duration) -> Duration {
        budget.saturating_sub(self.began.elapsed())
    }

    /// How long the call has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What the host end of the pair carries, so that truth can be read back from the kernel.
    pub(crate) fn alias(&self) -> LinkAlias {
        LinkAlias::of(&self.sandbox, &self.pod)
    }

    /// The pod for messages; containers without Kubernetes arguments go by their id.
    pub(crate) fn whom(&self) -> String {
        if self.pod.name.is_empty() {
            format!("container {}", self.sandbox.container)
        } else {
            format!("pod {}", self.pod)
        }
    }
}
