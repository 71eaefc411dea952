//! All ENIs, found by id, by instance and by attachment without a look at each: a fleet has tens of thousands.

use imbl::{OrdMap, OrdSet};
use vpc_model::{AttachmentId, EniId, InstanceId, Mac};

use super::eni::{Attachment, Eni};
use super::shelf::Shelf;

/// The ENIs. An attachment comes and goes by [`Enis::tie`] and [`Enis::untie`] alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enis {
    all: Shelf<EniId, Eni>,
    of: OrdMap<InstanceId, Vec<EniId>>,
    by_attachment: OrdMap<AttachmentId, EniId>,
    /// Those that are attached to no instance.
    loose: OrdSet<EniId>,
    macs: OrdSet<Mac>,
}

impl Enis {
    pub(crate) fn get(&self, id: &EniId) -> Option<&Eni> {
        self.all.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &EniId) -> Option<&mut Eni> {
        self.all.get_mut(id)
    }

    pub(crate) fn contains_key(&self, id: &EniId) -> bool {
        self.all.contains_key(id)
    }

    /// All of them, by id.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Eni> {
        self.all.values()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &EniId> {
        self.all.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// A new one, attached to nothing.
    pub(crate) fn insert(&mut self, eni: Eni) {
        self.macs.insert(eni.mac);
        self.loose.insert(eni.id.clone());
        self.all.insert(eni.id.clone(), eni);
    }

    pub(crate) fn remove(&mut self, id: &EniId) -> Option<Eni> {
        let attachment = self.untie(id);
        let mut eni = self.all.remove(id)?;
        self.macs.remove(&eni.mac);
        self.loose.remove(id);
        eni.attachment = attachment;
        Some(eni)
    }

    /// Attaches one that is attached to nothing.
    pub(crate) fn tie(&mut self, id: &EniId, attachment: Attachment) {
        let Some(eni) = self.all.get_mut(id) else { return };
        self.loose.remove(id);
        let own = self.of.entry(attachment.instance.clone()).or_default();
        own.push(id.clone());
        own.sort_unstable();
        self.by_attachment.insert(attachment.id.clone(), id.clone());
        eni.attachment = Some(attachment);
    }

    /// Ends its attachment.
    pub(crate) fn untie(&mut self, id: &EniId) -> Option<Attachment> {
        let attachment = self.all.get_mut(id)?.attachment.take()?;
        self.by_attachment.remove(&attachment.id);
        if let Some(own) = self.of.get_mut(&attachment.instance) {
            own.retain(|other| other != id);
            if own.is_empty() {
                self.of.remove(&attachment.instance);
            }
        }
        self.loose.insert(id.clone());
        Some(attachment)
    }

    /// The ENIs of an instance, by id.
    pub(crate) fn of<'a>(&'a self, instance: &InstanceId) -> impl Iterator<Item = &'a Eni> + use<'a> {
        self.of.get(instance).into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// Their ids.
    pub(crate) fn ids_of(&self, instance: &InstanceId) -> Vec<EniId> {
        self.of.get(instance).into_iter().flatten().cloned().collect()
    }

    /// The ENI with that attachment.
    pub(crate) fn attached_as(&self, id: &AttachmentId) -> Option<&Eni> {
        self.by_attachment.get(id).and_then(|eni| self.all.get(eni))
    }

    /// Those that are attached to no instance, by id.
    pub(crate) fn loose(&self) -> impl Iterator<Item = &Eni> {
        self.loose.iter().filter_map(|id| self.all.get(id))
    }

    pub(crate) fn has_mac(&self, mac: Mac) -> bool {
        self.macs.contains(&mac)
    }
}
