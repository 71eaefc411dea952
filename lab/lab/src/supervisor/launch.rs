//! Power and existence of nodes, as EC2's API changes them: what a person asks for here and what a program asks of EC2 take the same
//! way through the cloud and back as events.

use std::time::Duration;

use super::node::READY_PATIENCE;
use super::run::Supervisor;
use crate::control::Failure;

/// Power may take so long to come or go.
const POWER_PATIENCE: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Turns a node on or off, and waits until it is.
    pub(super) fn power(&self, name: &str, on: bool) -> Result<(), Failure> {
        let node = self.named(name)?;
        if node.is_on() == on {
            return Ok(());
        }
        self.runtime.block_on(self.cloud.power(&node.instance, on)).map_err(Failure::other)?;
        node.wait_for_power(on, POWER_PATIENCE)?;
        if on {
            node.wait_ready(READY_PATIENCE).map_err(Failure::other)?;
            node.kubelet.power_back(&node.view()?);
        }
        Ok(())
    }

    /// Terminates a node's instance, and waits until nothing of the node is left.
    pub(super) fn remove_node(&self, name: &str) -> Result<(), Failure> {
        let node = self.named(name)?;
        self.runtime.block_on(self.cloud.terminate(&node.instance)).map_err(Failure::other)
    }
}
