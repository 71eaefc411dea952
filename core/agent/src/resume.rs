//! What an earlier life of the daemon was giving back goes on being given back.
//!
//! Its last call may still be carried out: EC2 shows a position, or an ENI, that it takes away a moment later. So nobody gets an address
//! of them meanwhile, and they leave as they were to: with all the proof that giving back asks for ([`crate::giveback`]), or they stay
//! once no call of the earlier life can be under way any more and EC2 says that they are there.

use vpc_ipam::{EniUse, SlotState, Unit};
use vpc_model::{EniId, Slot, Time};

use crate::agent::Agent;
use crate::checkpoint::CheckpointEni;
use crate::jobs::CALL_LIMIT;

impl Agent {
    /// Takes up again what the checkpoint says was being given back. Comes after its leases: what a pod has stays.
    pub(crate) fn resume_giving_back(&mut self, now: Time, enis: &[CheckpointEni]) {
        let until = now + CALL_LIMIT;
        for eni in enis {
            let id = &eni.facts.id;
            let Some(known) = self.pool.eni(id) else { continue };
            if eni.going && !known.facts.is_primary() && !self.busy(id) {
                self.set_use(id, EniUse::Leaving);
                self.resume_exit(id.clone(), until);
            } else {
                self.resume_release(now, id, &eni.leaving, until);
            }
        }
    }

    fn resume_release(&mut self, now: Time, eni: &EniId, leaving: &[Slot], until: Time) {
        let unused = |slot: &Slot| self.pool.on_slot(*slot) == (0, 0);
        let leaving: Vec<Slot> = leaving.iter().copied().filter(unused).collect();
        // The metadata may have forgotten them already, or not yet know that they are gone.
        if let Err(error) = self.pool.admit(eni, leaving.iter().copied()) {
            return self.say(crate::message::Notice::Disagreement { what: error.to_string() });
        }
        self.mark(eni, &leaving, SlotState::Leaving);
        for unit in [Unit::Prefix, Unit::Address] {
            let slots: Vec<Slot> = leaving.iter().copied().filter(|slot| Unit::of(*slot) == unit).collect();
            if !slots.is_empty() {
                self.take_up_release(now, eni, unit, slots, Some(until));
            }
        }
    }
}
