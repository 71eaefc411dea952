//! What a history does to a world that nobody in it does: other people with the account's keys, root on a node.

use std::net::Ipv4Addr;

use lab_cloud::{Caller, OutsideEvent, id_for};
use vpc_agent::Input;
use vpc_aws::ec2::shapes::{AssignPrivateIpAddresses, ModifyNetworkInterfaceAttribute};
use vpc_hostnet::{HostOp, priority};
use vpc_model::{EniId, Millis, Slot, Time};

use crate::history::Outsider;
use crate::world::{Event, NodeAt, World};

/// What somebody else took off a node.
#[derive(Clone, Debug)]
pub(crate) struct Stolen {
    /// Off which of its ENIs.
    pub(crate) off: EniId,
    /// When; or when the daemon could first notice.
    pub(crate) at: Time,
}

impl World {
    /// Starts the daemon after `span`.
    pub fn start_later(&mut self, node: NodeAt, span: Millis) {
        self.later(span, Event::Start { node });
    }

    /// Takes back what [`World::doom`] said.
    pub fn undoom(&mut self, node: NodeAt) {
        if let Some(own) = self.node_mut(node) {
            own.death = None;
        }
    }

    /// Time passes until then; nothing is due before.
    pub fn idle_until(&mut self, at: Time) {
        self.now = self.now.max(at);
    }

    /// Somebody with the account's own key changes one of the things a node has in EC2. What there is none of is left alone.
    pub fn outsider(&mut self, node: NodeAt, what: Outsider, pick: u32) {
        self.note_stir(node);
        let Some(own) = self.node(node) else { return };
        let chosen = |count: usize| (count > 0).then(|| usize::try_from(pick).unwrap_or_default() % count.max(1));
        let enis: Vec<EniId> = own.guest_enis().map(|eni| eni.id.clone()).collect();
        let secondary: Vec<EniId> =
            own.guest_enis().filter(|eni| eni.device.0 != 0).map(|eni| eni.id.clone()).collect();
        let slots: Vec<Slot> = own
            .guest_enis()
            .flat_map(|eni| {
                let single = eni.addresses.secondary.iter().copied().map(Slot::Address);
                single.chain(eni.addresses.prefixes.iter().copied().map(Slot::Prefix))
            })
            .collect();
        match what {
            Outsider::TakeAddress => {
                let Some(slot) = chosen(slots.len()).map(|index| slots[index]) else { return };
                self.steal(node, addresses(slot));
                drop(self.cloud.outside(self.now, OutsideEvent::AddressRemoved { address: slot }));
            }
            Outsider::TakeEni => {
                let Some(eni) = chosen(secondary.len()).map(|index| secondary[index].clone()) else { return };
                let gone = self.node(node).into_iter().flat_map(|own| own.guest_enis()).filter(|own| own.id == eni);
                let gone: Vec<Ipv4Addr> = gone
                    .flat_map(|eni| {
                        let single = eni.addresses.secondary.iter().copied().map(Slot::Address);
                        single.chain(eni.addresses.prefixes.iter().copied().map(Slot::Prefix))
                    })
                    .flat_map(addresses)
                    .collect();
                self.steal(node, gone);
                drop(self.cloud.outside(self.now, OutsideEvent::EniRemoved { eni }));
            }
            Outsider::TakeTags => {
                let Some(eni) = chosen(enis.len()).map(|index| enis[index].clone()) else { return };
                drop(self.cloud.outside(self.now, OutsideEvent::TagsRemoved { eni, keys: Vec::new() }));
            }
            Outsider::ChangeGroups => {
                let Some(eni) = chosen(enis.len()).map(|index| enis[index].clone()) else { return };
                let group = if pick.is_multiple_of(2) { id_for("default") } else { id_for("nodes") };
                let request = ModifyNetworkInterfaceAttribute {
                    groups: vec![group],
                    ..ModifyNetworkInterfaceAttribute::new(eni)
                };
                self.cloud.submit(self.now, &Caller::Account, request.into());
            }
            Outsider::GiveAddress => {
                let Some(eni) = chosen(enis.len()).map(|index| enis[index].clone()) else { return };
                let request = AssignPrivateIpAddresses::addresses(eni, 1);
                self.cloud.submit(self.now, &Caller::Account, request.into());
            }
        }
        self.hear_cloud();
    }

    /// EC2 or IMDS tell the truth again: what others have taken can be noticed from now on.
    pub(crate) fn may_notice_now(&mut self) {
        let now = self.now;
        self.stolen.values_mut().for_each(|stolen| stolen.at = now);
    }

    /// These addresses are no longer what somebody was promised, and nobody here is to blame.
    fn steal(&mut self, from: NodeAt, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        for address in addresses {
            let eni = self.node(from).and_then(|own| own.guest_enis().find(|eni| eni.addresses.holds(address)));
            let Some(off) = eni.map(|eni| eni.id.clone()) else { continue };
            self.stolen.insert((from, address), Stolen { off, at: self.now });
            self.ended.remove(&address);
            if let Some(owner) = self.owners.get_mut(&address) {
                owner.taken = true;
            }
        }
    }

    /// Somebody removes rules of pods and ENIs from the host, one of so many.
    pub fn lose_rules(&mut self, node: NodeAt, every: u32) {
        let Some(own) = self.node_mut(node) else { return };
        let rules = own.host.observe().rules;
        let ours = rules
            .into_iter()
            .filter(|rule| matches!(rule.priority, priority::TO_POD | priority::FROM_POD | priority::FROM_ENI));
        for rule in ours.step_by(usize::try_from(every.max(1)).unwrap_or(1)) {
            drop(own.host.apply(&HostOp::RemoveRule(rule)));
        }
        self.note_hurt(node);
        self.think(node, Input::HostChanged);
    }
}

fn addresses(slot: Slot) -> Vec<Ipv4Addr> {
    match slot {
        Slot::Address(address) => vec![address],
        Slot::Prefix(prefix) => prefix.addresses().collect(),
    }
}
