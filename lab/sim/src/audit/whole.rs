//! The whole state at once: every pod, every promise, every agent's books.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_model::InstanceId;

use crate::audit::Fault;
use crate::world::{NodeAt, TICK_PAUSE, Watch, World};

/// Steps between two looks at everything.
pub const WHOLE_EVERY: u32 = 1_000;

impl World {
    /// Looks at everything: every running pod (packets go both ways), every promise (its address is on its node in EC2, and on its
    /// node's disk), calls whose answer was lost, and the agents' books. Adds to [`World::faults`].
    pub fn look(&mut self) {
        let mut found = Vec::new();
        let now = self.agent_time(self.now);
        let in_ec2 = self.in_ec2();
        for (index, own) in self.nodes.iter().enumerate() {
            let node = NodeAt(index);
            let mut books = own.agent().map(|agent| agent.audit(now)).unwrap_or_default();
            // Whose time is over is answered with the next tick, and two ticks are some milliseconds apart.
            let ticks = own.wake.is_some_and(|wake| wake > self.now && wake <= own.last_tick + TICK_PAUSE);
            books.retain(|fault| !(ticks && matches!(fault, vpc_agent::Fault::Overdue { .. })));
            found.extend(books.into_iter().map(|fault| Fault::Agent { node, fault }));
            found.extend(self.cut_off(node, |_| true));
            found.extend(self.abandoned(node));
            let forgotten = self.not_on_disk(node).into_iter();
            found.extend(forgotten.map(|(key, address)| Fault::Forgotten { node, key, address }));
        }
        for (address, owner) in self.owners.iter().filter(|(_, owner)| !owner.taken) {
            let instance = self.nodes.get(owner.node.0).map(|own| &own.instance);
            if in_ec2.get(address) != instance {
                found.push(Fault::NotInEc2 { node: owner.node, key: owner.key.clone(), address: *address });
            }
        }
        self.faults.extend(found);
    }

    /// [`Self::look`], if it is time.
    pub(crate) fn look_in_time(&mut self) {
        if self.steps >= self.look_at && self.watch != Watch::Never {
            self.look_at = self.steps + u64::from(WHOLE_EVERY);
            self.look();
        }
    }

    /// The instance every secondary address is on, as EC2 has it.
    fn in_ec2(&mut self) -> BTreeMap<Ipv4Addr, InstanceId> {
        let snapshot = self.cloud.snapshot(self.now);
        let mut all = BTreeMap::new();
        for eni in snapshot.enis {
            let Some(tie) = eni.attachment else { continue };
            let single = eni.addresses.secondary.iter().copied();
            let of_prefixes = eni.addresses.prefixes.iter().flat_map(|prefix| prefix.addresses());
            all.extend(single.chain(of_prefixes).map(|address| (address, tie.instance.clone())));
        }
        all
    }
}
