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

    /// A call that is refused before anything is known of it but its configuration.
    pub(crate) fn refused(conf: &NetConf, verb: Command, error: &CniError) {
        Self::of_network(conf, verb).end(&Err(error.clone()));
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
        self.oddities(&call.conf);
        let previous = match &call.conf.prev_result {
            None => "no",
            Some(Ok(_)) => "a",
            Some(Err(_)) => "an unusable",
        };
        self.debug(&format!(
            "configuration: cniVersion {}, vethPrefix `{}`, mtu {}, podSGEnforcingMode {}, {previous} previous result",
            call.conf.version,
            call.conf.veth_prefix.as_str(),
            call.conf.mtu,
            call.conf.enforcing_mode,
        ));
    }

    /// What of the configuration is not used as it stands.
    pub(crate) fn oddities(&self, conf: &NetConf) {
        conf.oddities.iter().for_each(|odd| self.error(odd));
        if let Some(wrong) = &conf.wrong {
            self.error(&format!("{wrong}; the default is used, since the pod is to be deleted"));
        }
    }

    /// The call as it ended.
    pub(crate) fn end(&self, outcome: &Result<(), CniError>) {
        match outcome {
            Ok(()) => self.info("done"),
            Err(error) => self.error(&format!("failed with code {}: {error}", error.code as u32)),
        }
    }
}
