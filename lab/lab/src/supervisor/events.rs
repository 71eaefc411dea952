//! What somebody outside does to the cloud's objects: the object is looked up, and the model lets it happen.

use lab_cloud::{EniSnapshot, OutsideEvent, Snapshot};
use vpc_model::{EniId, InstanceId, Slot};

use super::run::Supervisor;
use crate::control::Failure;
use crate::fault::CloudEvent;

/// The device that is meant when a node is named alone: the first that can be taken away.
const FIRST_SECONDARY: u32 = 1;

impl Supervisor {
    /// Lets it happen; what it happened to.
    pub(super) fn cloud_event(&self, event: &CloudEvent) -> Result<String, Failure> {
        let (event, object) = match event {
            CloudEvent::EniRemoved { eni, node, device } => {
                let eni = self.eni_meant(eni.as_ref(), node.as_deref(), *device)?;
                (OutsideEvent::EniRemoved { eni: eni.clone() }, eni.to_string())
            }
            CloudEvent::TagsRemoved { eni, node, device, keys } => {
                let eni = self.eni_meant(eni.as_ref(), node.as_deref(), *device)?;
                (OutsideEvent::TagsRemoved { eni: eni.clone(), keys: keys.clone() }, eni.to_string())
            }
            CloudEvent::AddressRemoved { address, node, in_use } => {
                let text = match (address, node) {
                    (Some(address), None) => address.clone(),
                    (None, Some(node)) => self.slot_of(node, *in_use)?,
                    _ => return Err(Failure::other("address-removed: expected exactly one of `address` and `node`")),
                };
                let event = serde_json::json!({ "event": "address-removed", "address": text });
                (serde_json::from_value(event).map_err(Failure::other)?, text)
            }
        };
        self.runtime.block_on(self.cloud.outside(event)).map_err(Failure::other)?;
        Ok(object)
    }

    fn eni_meant(&self, eni: Option<&EniId>, node: Option<&str>, device: Option<u32>) -> Result<EniId, Failure> {
        match (eni, node) {
            (Some(eni), None) => Ok(eni.clone()),
            (None, Some(name)) => {
                let wanted = device.unwrap_or(FIRST_SECONDARY);
                let (snapshot, instance) = (self.cloud.snapshot(), self.named(name)?.instance.clone());
                let found = enis_of(&snapshot, &instance).find(|(device, _)| *device == wanted);
                found.map(|(_, eni)| eni.id.clone()).ok_or_else(|| {
                    let known = enis_of(&snapshot, &instance).map(|(device, _)| device.to_string());
                    let known = known.collect::<Vec<_>>().join(", ");
                    Failure::other(format!("{name} has no ENI with device number {wanted}; it has: {known}"))
                })
            }
            _ => Err(Failure::other("expected exactly one of `eni` and `node`")),
        }
    }

    /// A secondary address or prefix of a node that a pod has, or that no pod has.
    fn slot_of(&self, name: &str, in_use: bool) -> Result<String, Failure> {
        let node = self.named(name)?;
        let pods: Vec<_> = node.kubelet.pods().into_iter().filter_map(|pod| pod.address).collect();
        let snapshot = self.cloud.snapshot();
        let mut slots = enis_of(&snapshot, &node.instance).flat_map(|(_, eni)| {
            let single = eni.addresses.secondary.iter().copied().map(Slot::Address);
            single.chain(eni.addresses.prefixes.iter().copied().map(Slot::Prefix)).collect::<Vec<_>>()
        });
        let taken = |slot: &Slot| match slot {
            Slot::Address(address) => pods.contains(address),
            Slot::Prefix(prefix) => pods.iter().any(|pod| prefix.net().contains(pod)),
        };
        let found = slots.find(|slot| taken(slot) == in_use);
        found.map(|slot| slot.to_string()).ok_or_else(|| {
            let kind = if in_use { "that a pod has" } else { "that no pod has" };
            Failure::other(format!("{name} has no secondary address or prefix {kind}"))
        })
    }
}

/// An instance's ENIs with their device numbers.
fn enis_of<'a>(snapshot: &'a Snapshot, instance: &'a InstanceId) -> impl Iterator<Item = (u32, &'a EniSnapshot)> {
    snapshot.enis.iter().filter_map(move |eni| {
        let attachment = eni.attachment.as_ref().filter(|attachment| attachment.instance == *instance)?;
        Some((u32::from(attachment.device.0), eni))
    })
}
