//! What faults do to IMDS: to a request before it is looked at ([`Cloud::imds_arrival`]), and to the picture of the ENIs it
//! is answered from ([`Cloud::imds_answer`]).
//!
//! The real picture goes on underneath; lifting a fault shows it again at once. A request counts as a hit of a fault only if
//! its answer is another one because of it.

use std::borrow::Cow;

use vpc_model::{InstanceId, Millis, Time};

use crate::cloud::Cloud;
use crate::dice::Dice;
use crate::fault::{CloudFault, FaultId};
use crate::faults::{Active, Memory};
use crate::ids::hash64;
use crate::imds::Lists;
use crate::world::Instance;

/// What becomes of an IMDS request when it arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImdsArrival {
    /// How long it waits.
    pub delay: Millis,
    /// HTTP status it is then answered with, whatever it asks; `None`: it is looked at.
    pub refusal: Option<u16>,
    /// Faults that had a hand in it.
    pub faults: Vec<FaultId>,
}

/// An answer of IMDS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImdsAnswer {
    /// The value or list; `None`: there is nothing there (404).
    pub value: Option<String>,
    /// Faults because of which it is another than it would be.
    pub faults: Vec<FaultId>,
}

/// What IMDS shows of an instance's ENIs.
#[derive(Clone, Debug)]
pub(crate) struct Picture<'a> {
    pub(crate) lists: Cow<'a, Lists>,
    /// MACs, secondary addresses and prefixes are shuffled with this; `None`: they come in order.
    pub(crate) shuffle: Option<Dice>,
}

impl Picture<'_> {
    /// Puts a list in this picture's order.
    pub(crate) fn in_order<T>(&self, mut items: Vec<T>) -> Vec<T> {
        let Some(mut dice) = self.shuffle.clone() else { return items };
        for last in (1..items.len()).rev() {
            let other = usize::try_from(dice.below(last as u64 + 1)).unwrap_or(0);
            items.swap(last, other);
        }
        items
    }
}

impl Cloud {
    /// What becomes of an IMDS request that arrives now. `asks_token`: it asks for a session token.
    pub fn imds_arrival(&mut self, now: Time, instance: &InstanceId, asks_token: bool) -> ImdsArrival {
        self.catch_up(now);
        let delay = self.dice.span(self.setup.profile.imds);
        let mut arrival = ImdsArrival { delay, ..ImdsArrival::default() };
        for (id, active) in self.faults.iter().filter(|(_, active)| active.is_about(instance)) {
            match active.fault {
                CloudFault::ImdsSlow { by_ms, .. } => arrival.delay = Millis(arrival.delay.0.saturating_add(by_ms)),
                CloudFault::ImdsError { status, .. } => _ = arrival.refusal.get_or_insert(status),
                CloudFault::ImdsUnauthorized { .. } if !asks_token => _ = arrival.refusal.get_or_insert(401),
                _ => continue,
            }
            arrival.faults.push(id);
        }
        self.faults.hit(&arrival.faults);
        arrival
    }

    /// What an instance's metadata service answers to a path below `/latest/` (`meta-data/mac`): a value without a newline
    /// at its end, or the names below a folder, one a line. A slash at the end means nothing. Nothing is there for an
    /// instance without power.
    pub fn imds_answer(&mut self, now: Time, instance: &InstanceId, path: &str) -> ImdsAnswer {
        // Bringing the picture up to date may produce outputs; they wait for the next `advance`.
        self.catch_up(now);
        for (_, active) in self.faults.iter_mut().filter(|(_, active)| active.is_about(instance)) {
            if let Memory::Looks(looks) = &mut active.memory {
                *looks += 1;
            }
        }
        let Some(own) = self.world.instances.get(instance).filter(|own| own.on) else {
            return ImdsAnswer::default();
        };
        let lists = self.imds.of_instance(instance);
        let mut picture = Picture { lists, shuffle: None };
        let mut answer = ImdsAnswer { value: self.look_up(now, own, &picture, path), faults: Vec::new() };
        for (id, active) in self.faults.iter().filter(|(_, active)| active.is_about(instance)) {
            if self.spoil_picture(&mut picture, own, id, active) {
                let value = self.look_up(now, own, &picture, path);
                if value != answer.value {
                    answer.value = value;
                    answer.faults.push(id);
                }
            }
        }
        self.faults.hit(&answer.faults);
        answer
    }

    /// Changes the picture as a fault does; false if the fault is not about it.
    fn spoil_picture<'a>(&'a self, picture: &mut Picture<'a>, own: &Instance, id: FaultId, active: &'a Active) -> bool {
        match (&active.fault, &active.memory) {
            (CloudFault::ImdsStale { .. }, Memory::Frozen(then)) => {
                // An instance that came later is not known there.
                if let Some(lists) = then.known(&own.spec.id) {
                    picture.lists = Cow::Borrowed(lists);
                }
            }
            (CloudFault::ImdsPartial { .. }, _) => picture.lists.to_mut().values_mut().for_each(|eni| {
                eni.secondary.clear();
                eni.prefixes.clear();
            }),
            (CloudFault::ImdsReordered { .. }, Memory::Looks(looks)) => {
                let look = hash64("look", &format!("{id} {looks}"));
                picture.shuffle = Some(Dice::new(self.setup.seed ^ look));
            }
            (CloudFault::ImdsMissing { device, .. }, _) => picture.lists.to_mut().retain(|_, eni| match device {
                Some(device) => u32::from(eni.device.0) != *device,
                None => eni.id == own.primary,
            }),
            (CloudFault::ImdsHollow { .. }, _) => {
                picture
                    .lists
                    .to_mut()
                    .values_mut()
                    .filter(|eni| eni.id != own.primary)
                    .for_each(|eni| eni.hollow = true);
            }
            _ => return false,
        }
        true
    }
}
