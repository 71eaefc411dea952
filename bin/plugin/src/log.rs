//! What the plugin says of a call in its log. The configuration is never written whole: it holds the pod's annotations.

use std::ops::Deref;

use vpc_model::{PodRef, SandboxKey};
use vpc_wire::cni::{CniError, Command, NetConf, PluginLog};

use crate::call::Call;

/// The log of one call.
pub(crate) struct Log(PluginLog);

impl Deref for Log {
    type Target = PluginLog;
    fn deref(&self) -> &PluginLog {
        &self.0
    }
}

impl Log {
    pub(crate) fn open(conf: &NetConf, verb: Command, sandbox: &SandboxKey, pod: &PodRef) -> Self {
        let about = [
            ("container", sandbox.container.as_str()),
            ("interface", sandbox.interface.as_str()),
            ("pod", &pod.to_string()),
            ("verb", verb.as_str()),
        ];
        Self(PluginLog::open(&conf.log_file, conf.log_level, "aws-cni", &about))
    }

    /// For a call about no container.
    pub(crate) fn of_network(conf: &NetConf, verb: Command) -> Self {
        let about = [("network", conf.name.as_str()), ("verb", verb.as_str())];
        Self(PluginLog::open(&conf.log_file, conf.log_level, "aws-cni", &about))
    }

    /// The call as it came.
    pub(crate) fn begin(&self, call: &Call) {
        self.info(&format!(
            "{} for network {}, netns {}",
            call.whom(),
            call.sandbox.network,
            call.netns.as_deref().unwrap_or("none")
        ));
        if let Some(text) = &call.conf.mtu.rejected {
            self.error(&format!(
                "`mtu` is `{text}`: expected a decimal number from 576 to 9001; using {}",
                call.conf.mtu.bytes
            ));
        }
        let previous = match &call.conf.prev_result {
            None => "no",
            Some(Ok(_)) => "a",
            Some(Err(_)) => "an unusable",
        };
        self.debug(&format!(
            "configuration: cniVersion {}, vethPrefix `{}`, mtu {}, podSGEnforcingMode {}, {previous} previous result",
            call.conf.version,
            call.conf.veth_prefix.as_str(),
            call.conf.mtu.bytes,
            call.conf.enforcing_mode,
        ));
    }

    /// The call as it ended.
    pub(crate) fn end(&self, outcome: &Result<(), CniError>) {
        match outcome {
            Ok(()) => self.info("done"),
            Err(error) => self.error(&format!("failed with code {}: {error}", error.code as u32)),
        }
    }
}
