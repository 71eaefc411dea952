//! What somebody outside does to the world, once, behind everybody's back.

use vpc_model::{EniId, Slot, Time};

use crate::cloud::{Cloud, Task};
use crate::event::FabricEvent;
use crate::fault::{FaultError, OutsideEvent};
use crate::faults::{one_of, unknown};

impl Cloud {
    /// Lets somebody outside do something now. IMDS learns of it as late as of everything else.
    ///
    /// # Errors
    /// There is no such ENI, address or tag, or EC2 would not let it happen.
    pub fn outside(&mut self, now: Time, event: OutsideEvent) -> Result<(), FaultError> {
        self.catch_up(now);
        match event {
            OutsideEvent::EniRemoved { eni } => self.lose_eni(&eni),
            OutsideEvent::AddressRemoved { address } => self.lose_address(address),
            OutsideEvent::TagsRemoved { eni, keys } => self.lose_tags(&eni, &keys),
        }
    }

    fn lose_eni(&mut self, id: &EniId) -> Result<(), FaultError> {
        self.known_eni(id)?;
        if self.world.instances.values().any(|instance| instance.primary == *id && self.is_attached(id)) {
            return Err(FaultError::Value {
                field: "eni".to_owned(),
                value: id.to_string(),
                expected: "an ENI that is not the primary one of an instance".to_owned(),
            });
        }
        let mac = self.world.enis.get(id).map(|eni| eni.mac);
        let attachment = self.world.enis.untie(id);
        if let Some((attachment, mac)) = attachment.zip(mac) {
            let instance = attachment.instance;
            if attachment.seen {
                self.emit(FabricEvent::EniDetached { instance: instance.clone(), eni: id.clone(), mac });
            }
            self.later(self.setup.profile.imds_drop, Task::ImdsDrop { instance, mac, attachment: attachment.id });
        }
        self.remove_eni(id);
        Ok(())
    }

    fn lose_address(&mut self, slot: Slot) -> Result<(), FaultError> {
        let holder = self.world.enis.values().find(|eni| match slot {
            Slot::Address(address) => eni.secondary.contains(&address),
            Slot::Prefix(prefix) => eni.prefixes.contains(&prefix),
        });
        let id = holder.map(|eni| eni.id.clone()).ok_or_else(|| FaultError::Unknown {
            field: "address".to_owned(),
            kind: "secondary address or prefix of an ENI".to_owned(),
            name: slot.to_string(),
            expected: "an address that is not an ENI's primary one, or a whole prefix".to_owned(),
        })?;
        self.world.unassign(&id, &[slot]);
        self.end_mappings(&id);
        self.eni_changed(&id);
        Ok(())
    }

    fn lose_tags(&mut self, id: &EniId, keys: &[String]) -> Result<(), FaultError> {
        self.known_eni(id)?;
        let Some(eni) = self.world.enis.get_mut(id) else { return Ok(()) };
        if let Some(stranger) = keys.iter().find(|key| !eni.tags.contains_key(*key)) {
            return Err(unknown("keys", "tag", stranger, one_of(eni.tags.keys())));
        }
        eni.tags.retain(|key, _| !keys.is_empty() && !keys.contains(key));
        Ok(())
    }

    fn known_eni(&self, id: &EniId) -> Result<(), FaultError> {
        if self.world.enis.contains_key(id) {
            return Ok(());
        }
        Err(unknown("eni", "ENI", id.as_str(), one_of(self.world.enis.keys())))
    }

    fn is_attached(&self, id: &EniId) -> bool {
        self.world.enis.get(id).is_some_and(|eni| eni.attachment.is_some())
    }
}
