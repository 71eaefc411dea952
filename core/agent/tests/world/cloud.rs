//! The cloud of the paper node: ENIs, subnets with single addresses and blocks, limits, and what EC2 answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_agent::{CloudAnswer, CloudCall, CloudFailure, EniKind, EniTruth, FailureClass, SubnetTruth};
use vpc_ipam::Unit;
use vpc_model::{AttachmentId, EniId, Ipv4Net, Mac, Prefix28, Slot, Subnet, SubnetId};

use super::{CloudEni, World, failure};

/// A subnet of the paper cloud.
#[derive(Clone, Debug)]
pub struct PaperSubnet {
    pub truth: SubnetTruth,
    /// Addresses nobody has.
    pub free: u32,
    /// No free /28 is left, however many addresses are free.
    pub fragmented: bool,
    used: BTreeSet<u32>,
    /// Addresses are given round robin: one that came back is not the next to go.
    cursor: u32,
}

impl PaperSubnet {
    pub fn new(id: &str, net: &str, free: u32) -> Self {
        let net = Subnet::try_from(net.parse::<Ipv4Net>().unwrap()).unwrap();
        let truth = SubnetTruth {
            id: id.parse().unwrap(),
            vpc: "vpc-1".parse().unwrap(),
            zone: "us-west-2a".into(),
            net,
            free,
            tags: BTreeMap::new(),
        };
        Self { truth, free, fragmented: false, used: BTreeSet::new(), cursor: 10 }
    }

    pub fn tagged(mut self, key: &str, value: &str) -> Self {
        self.truth.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    fn first(&self) -> u32 {
        self.truth.net.net().network().to_bits()
    }

    fn size(&self) -> u32 {
        1 << (32 - u32::from(self.truth.net.net().prefix_len()))
    }

    pub fn take(&mut self, address: Ipv4Addr) {
        self.used.insert(address.to_bits());
    }

    fn addresses(&mut self, count: u32) -> Result<Vec<Ipv4Addr>, CloudFailure> {
        if count > self.free {
            let code = "InsufficientFreeAddressesInSubnet";
            return Err(failure(FailureClass::SubnetExhausted, "AssignPrivateIpAddresses", code));
        }
        let mut given = vec![];
        while given.len() < count as usize {
            self.cursor = if self.cursor + 1 >= self.size() - 1 { 10 } else { self.cursor + 1 };
            let address = self.first() + self.cursor;
            if self.used.insert(address) {
                given.push(Ipv4Addr::from_bits(address));
            }
        }
        self.free -= count;
        Ok(given)
    }

    fn prefixes(&mut self, count: u32) -> Result<Vec<Prefix28>, CloudFailure> {
        let action = "AssignPrivateIpAddresses";
        if count * 16 > self.free {
            return Err(failure(FailureClass::SubnetExhausted, action, "InvalidParameterValue"));
        }
        let blocks = (1..self.size() / 16 - 1).rev().map(|block| self.first() + block * 16);
        let whole: Vec<u32> = blocks.filter(|first| self.used.range(*first..first + 16).next().is_none()).collect();
        if self.fragmented || whole.len() < count as usize {
            return Err(failure(FailureClass::Fragmented, action, "InsufficientCidrBlocks"));
        }
        self.free -= count * 16;
        let given: Vec<u32> = whole.into_iter().take(count as usize).collect();
        for first in &given {
            self.used.extend(*first..first + 16);
        }
        Ok(given.into_iter().map(|first| Prefix28::containing(Ipv4Addr::from_bits(first))).collect())
    }

    fn give_back(&mut self, slot: Slot) {
        for address in slot.addresses() {
            if self.used.remove(&address.to_bits()) {
                self.free += 1;
            }
        }
    }
}

impl World {
    pub fn subnet(&mut self, id: &str) -> &mut PaperSubnet {
        self.subnets.get_mut(&id.parse::<SubnetId>().unwrap()).unwrap()
    }

    pub fn add_subnet(&mut self, subnet: PaperSubnet) {
        self.subnets.insert(subnet.truth.id.clone(), subnet);
    }

    /// Pods whose address is among these and whose sandbox lives.
    fn living_on(&self, slots: &[Slot]) -> Vec<String> {
        let on = |address: &Ipv4Addr| slots.iter().any(|slot| slot.contains(*address));
        self.living.iter().filter(|(_, address)| on(address)).map(|(name, _)| name.clone()).collect()
    }

    fn slots(&mut self, subnet: &SubnetId, unit: Unit, count: u32) -> Result<Vec<Slot>, CloudFailure> {
        let subnet = self.subnets.get_mut(subnet).unwrap();
        Ok(match unit {
            Unit::Address => subnet.addresses(count)?.into_iter().map(Slot::Address).collect(),
            Unit::Prefix => subnet.prefixes(count)?.into_iter().map(Slot::Prefix).collect(),
        })
    }

    pub(super) fn answer(&mut self, call: &CloudCall) -> Result<CloudAnswer, CloudFailure> {
        let missing = || failure(FailureClass::NotFound, "any", "InvalidNetworkInterfaceID.NotFound");
        match call {
            CloudCall::CreateEni { token, place, unit, count } => {
                if let Some(eni) = self.enis.values().find(|eni| eni.token.as_ref() == Some(token)) {
                    return Ok(CloudAnswer::Created(eni.truth.clone()));
                }
                if !self.subnets.contains_key(&place.subnet) {
                    return Err(failure(FailureClass::NotFound, "CreateNetworkInterface", "InvalidSubnetID.NotFound"));
                }
                let slots = self.slots(&place.subnet, *unit, *count)?;
                let primary = match self.slots(&place.subnet, Unit::Address, 1) {
                    Ok(primary) => primary,
                    Err(error) => {
                        let subnet = self.subnets.get_mut(&place.subnet).unwrap();
                        slots.into_iter().for_each(|slot| subnet.give_back(slot));
                        return Err(error);
                    }
                };
                let number = u8::try_from(self.enis.len()).unwrap();
                let id: EniId = format!("eni-{}-{}", number, self.calls.len()).parse().unwrap();
                let truth = EniTruth {
                    id: id.clone(),
                    mac: Mac([2, 0, 0, 0, 1, u8::try_from(self.calls.len() % 250).unwrap()]),
                    primary: primary[0].net().network(),
                    slots,
                    attachment: None,
                    available: true,
                    kind: EniKind::Ordinary,
                    subnet: place.subnet.clone(),
                    groups: place.groups.clone(),
                    tags: BTreeMap::from([("node.k8s.amazonaws.com/instance_id".to_owned(), "i-1".to_owned())]),
                    delete_on_termination: None,
                };
                let eni = CloudEni { truth: truth.clone(), token: Some(token.clone()), delete_on_termination: false };
                self.enis.insert(id, eni);
                Ok(CloudAnswer::Created(truth))
            }
            CloudCall::AttachEni { eni, card, device } => {
                let due = self.now + self.call_takes + self.link_takes;
                let attached = self.enis.values().filter_map(|other| other.truth.attachment.as_ref());
                let (count, taken) = (attached.clone().count(), attached.clone().any(|tie| tie.2 == *device));
                let eni = self.enis.get_mut(eni).ok_or_else(missing)?;
                if eni.truth.attachment.is_some() {
                    return Err(failure(
                        FailureClass::WrongState,
                        "AttachNetworkInterface",
                        "InvalidNetworkInterface.InUse",
                    ));
                }
                if count >= self.eni_limit {
                    return Err(failure(FailureClass::EniLimit, "AttachNetworkInterface", "AttachmentLimitExceeded"));
                }
                if eni.truth.slots.len() > self.slot_limit {
                    return Err(failure(
                        FailureClass::AddressLimit,
                        "AttachNetworkInterface",
                        "PrivateIpAddressLimitExceeded",
                    ));
                }
                assert!(
                    !taken,
                    "position {device} is taken: {:#?}",
                    &self.calls[self.calls.len().saturating_sub(14)..]
                );
                let attachment: AttachmentId = format!("eni-attach-{}", eni.truth.id.as_str()).parse().unwrap();
                eni.truth.attachment = Some((attachment.clone(), *card, *device));
                eni.truth.available = false;
                eni.truth.delete_on_termination = Some(false);
                self.links_due.push((due, eni.truth.mac, *device));
                Ok(CloudAnswer::Attached(attachment))
            }
            CloudCall::DeleteOnTermination { eni, .. } => {
                let eni = self.enis.get_mut(eni).ok_or_else(missing)?;
                eni.delete_on_termination = true;
                eni.truth.delete_on_termination = Some(true);
                Ok(CloudAnswer::Done)
            }
            CloudCall::Assign { eni, unit, count } => {
                let truth = &self.enis.get(eni).ok_or_else(missing)?.truth;
                let (held, subnet) = (truth.slots.len(), truth.subnet.clone());
                if held + *count as usize > self.slot_limit {
                    let code = "PrivateIpAddressLimitExceeded";
                    return Err(failure(FailureClass::AddressLimit, "AssignPrivateIpAddresses", code));
                }
                let slots = self.slots(&subnet, *unit, *count)?;
                self.enis.get_mut(eni).unwrap().truth.slots.extend(&slots);
                Ok(CloudAnswer::Assigned(slots))
            }
            CloudCall::Unassign { eni, slots } => {
                let living = self.living_on(slots);
                let eni = self.enis.get_mut(eni).ok_or_else(missing)?;
                if !slots.iter().all(|slot| eni.truth.slots.contains(slot)) {
                    return Err(failure(FailureClass::Other, "UnassignPrivateIpAddresses", "InvalidParameterValue"));
                }
                assert_eq!(living, Vec::<String>::new(), "addresses of living pods were given back: {slots:?}");
                eni.truth.slots.retain(|slot| !slots.contains(slot));
                let subnet = self.subnets.get_mut(&eni.truth.subnet).unwrap();
                slots.iter().for_each(|slot| subnet.give_back(*slot));
                Ok(CloudAnswer::Done)
            }
            CloudCall::Describe { eni } => Ok(CloudAnswer::Described(self.enis.get(eni).map(|eni| eni.truth.clone()))),
            CloudCall::DescribeNode => {
                let here = self.enis.values().filter(|eni| eni.truth.attachment.is_some());
                Ok(CloudAnswer::Node(here.map(|eni| eni.truth.clone()).collect()))
            }
            CloudCall::SetGroups { eni, groups } => {
                self.enis.get_mut(eni).ok_or_else(missing)?.truth.groups.clone_from(groups);
                Ok(CloudAnswer::Done)
            }
            CloudCall::Tag { enis, tags } => {
                for eni in enis {
                    self.enis.get_mut(eni).ok_or_else(missing)?.truth.tags.extend(tags.clone());
                }
                Ok(CloudAnswer::Done)
            }
            CloudCall::Subnets { also } => {
                let listed = self
                    .subnets
                    .values()
                    .filter(|subnet| subnet.truth.zone == "us-west-2a" || also.contains(&subnet.truth.id));
                let listed = listed.map(|subnet| SubnetTruth { free: subnet.free, ..subnet.truth.clone() });
                Ok(CloudAnswer::Subnets(listed.collect()))
            }
            CloudCall::FindLeaked => Ok(CloudAnswer::Leaked(vec![])),
            CloudCall::Limits => match self.limits {
                Some((max_enis, slots_per_eni, prefixes)) => {
                    Ok(CloudAnswer::Limits { max_enis, slots_per_eni, prefixes })
                }
                None => Err(failure(FailureClass::Unauthorized, "DescribeInstanceTypes", "UnauthorizedOperation")),
            },
            CloudCall::Detach { eni, .. } => {
                let slots = self.enis.get(eni).ok_or_else(missing)?.truth.slots.clone();
                assert_eq!(self.living_on(&slots), Vec::<String>::new(), "an ENI of living pods was detached");
                let eni = self.enis.get_mut(eni).ok_or_else(missing)?;
                eni.truth.attachment = None;
                eni.truth.available = true;
                let mac = eni.truth.mac;
                self.links_due.retain(|(_, due, _)| *due != mac);
                let link = self.host.observe().links.iter().find(|link| link.mac == mac).map(|link| link.name.clone());
                if let Some(link) = link {
                    self.host.detach(&link);
                }
                Ok(CloudAnswer::Done)
            }
            CloudCall::FindStrays => {
                let strays = self.enis.values().filter(|eni| eni.token.is_some() && eni.truth.available);
                Ok(CloudAnswer::Strays(strays.map(|eni| eni.truth.id.clone()).collect()))
            }
            CloudCall::Delete { eni } => {
                let gone = self.enis.remove(eni).ok_or_else(missing)?;
                assert!(gone.truth.available, "deleted while attached");
                if let Some(subnet) = self.subnets.get_mut(&gone.truth.subnet) {
                    gone.truth.slots.iter().for_each(|slot| subnet.give_back(*slot));
                    subnet.give_back(Slot::Address(gone.truth.primary));
                }
                Ok(CloudAnswer::Done)
            }
        }
    }
}
