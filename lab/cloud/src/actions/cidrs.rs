//! CIDRs of the VPC that come and go.

use crate::cloud::Cloud;
use crate::world::CidrState;

impl Cloud {
    /// A CIDR that was on its way in or out has arrived there.
    pub(crate) fn cidr_settled(&mut self, id: &str) {
        match self.world.cidrs.iter_mut().find(|block| block.id == id) {
            Some(block) if block.state == CidrState::Associating => block.state = CidrState::Associated,
            Some(block) if block.state == CidrState::Disassociating => self.world.cidrs.retain(|block| block.id != id),
            _ => {}
        }
        self.network_changed();
    }
}
