//! The paper cloud: subnets and ENIs as maps.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_agent::{CloudAnswer, CloudCall, CloudFailure, EniKind, EniTruth, FailureClass, LeakedEni, SubnetTruth};
use vpc_ipam::Unit;
use vpc_model::{AttachmentId, EniId, Ipv4Net, Mac, Prefix28, Slot, Subnet, SubnetId, Time, WallTime};

use super::World;

pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
pub const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";

/// An ENI as the paper cloud has it.
#[derive(Clone, Debug)]
pub struct CloudEni {
    pub truth: EniTruth,
    pub token: Option<String>,
    pub delete_on_termination: bool,
}

/// A subnet as the paper cloud has it. Addresses come from its beginning, prefixes from its end; none comes twice.
#[derive(Clone, Debug)]
pub struct PaperSubnet {
    pub truth: SubnetTruth,
    /// It has no free /28.
    pub fragmented: bool,
    addresses: u32,
    prefixes: u32,
}

/// What the cloud does with the next call of a kind.
#[derive(Clone, Debug)]
pub enum Fault {
    Refuse(FailureClass, &'static str),
    /// The call is carried out, its answer lost.
    LoseAnswer,
    /// The call is carried out, its answer lost; sent once more by the client, it is refused.
    LoseAndRefuse(FailureClass, &'static str),
}

impl PaperSubnet {
    /// A subnet of the node's VPC and zone.
    pub fn new(name: &str, net: &str, free: u32) -> Self {
        let truth = SubnetTruth {
            id: format!("subnet-{name}").parse().unwrap(),
            vpc: "vpc-1".parse().unwrap(),
            zone: "us-west-2a".into(),
            net: Subnet::try_from(net.parse::<Ipv4Net>().unwrap()).unwrap(),
            free,
            tags: BTreeMap::new(),
        };
        Self { truth, fragmented: false, addresses: 0, prefixes: 0 }
    }

    /// The primary ENI's.
    pub fn home(free: u32) -> Self {
        Self::new("1", "10.20.8.0/22", free)
    }

    pub fn fragmented(mut self) -> Self {
        self.fragmented = true;
        self
    }

    pub fn tagged(mut self, key: &str, value: &str) -> Self {
        self.truth.tags.insert(key.into(), value.into());
        self
    }

    fn take(&mut self, unit: Unit, count: u32) -> Result<Vec<Slot>, CloudFailure> {
        if count * unit.size() > self.truth.free {
            let code = "InsufficientFreeAddressesInSubnet";
            return Err(failure(FailureClass::SubnetExhausted, "any", code));
        }
        if unit == Unit::Prefix && self.fragmented {
            return Err(failure(FailureClass::Fragmented, "any", "InsufficientCidrBlocks"));
        }
        self.truth.free -= count * unit.size();
        let net = self.truth.net.net();
        Ok((0..count).map(|_| self.next(net, unit)).collect())
    }

    fn next(&mut self, net: Ipv4Net, unit: Unit) -> Slot {
        match unit {
            Unit::Address => {
                self.addresses += 1;
                Slot::Address(Ipv4Addr::from_bits(net.network().to_bits() + 9 + self.addresses))
            }
            Unit::Prefix => {
                // The last block has the broadcast address in it; the node's own address is in the end of its subnet, too.
                self.prefixes += 1;
                let last = Ipv4Addr::from_bits(net.broadcast().to_bits() - 16 * (self.prefixes + 7));
                Slot::Prefix(Prefix28::containing(last))
            }
        }
    }
}

impl World {
    /// Puts a subnet into the cloud.
    pub fn add_subnet(&mut self, subnet: PaperSubnet) {
        self.subnets.insert(subnet.truth.id.clone(), subnet);
    }

    /// A subnet by the end of its id.
    pub fn subnet(&mut self, name: &str) -> &mut PaperSubnet {
        self.subnets.get_mut(&format!("subnet-{name}").parse().unwrap()).unwrap()
    }

    /// An ENI that some other node left behind.
    pub fn leave_behind(&mut self, id: &str, created: Option<Time>, tags: &[(&str, &str)]) {
        let mut truth = self.new_eni(id.parse().unwrap(), &"subnet-1".parse().unwrap(), Unit::Address, 0).unwrap();
        truth.tags.insert(INSTANCE_TAG.into(), "i-lost".into());
        truth.tags.extend(tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        if let Some(at) = created {
            self.created.insert(truth.id.clone(), wall(at));
        }
        let eni = CloudEni { truth, token: None, delete_on_termination: false };
        self.enis.insert(eni.truth.id.clone(), eni);
    }

    pub(super) fn cloud(&mut self, call: &CloudCall) -> Result<CloudAnswer, CloudFailure> {
        let fault =
            self.faults.iter().position(|(kind, _)| *kind == kind_of(call)).and_then(|at| self.faults.remove(at));
        match fault {
            Some((kind, Fault::Refuse(class, code))) => Err(failure(class, kind, code)),
            Some((kind, Fault::LoseAnswer)) => {
                let _ = self.answer(call);
                Err(failure(FailureClass::Lost, kind, "timeout"))
            }
            Some((kind, Fault::LoseAndRefuse(class, code))) => {
                let _ = self.answer(call);
                Err(CloudFailure { lost_before: true, ..failure(class, kind, code) })
            }
            None => self.answer(call),
        }
    }

    /// Living pods whose address is among these.
    fn living_on(&self, slots: &[Slot]) -> Vec<String> {
        let on = |address: &Ipv4Addr| slots.iter().any(|slot| slot.contains(*address));
        self.living.iter().filter(|(_, address)| on(address)).map(|(name, _)| name.clone()).collect()
    }

    fn answer(&mut self, call: &CloudCall) -> Result<CloudAnswer, CloudFailure> {
        let missing = || failure(FailureClass::NotFound, "any", "InvalidNetworkInterfaceID.NotFound");
        match call {
            CloudCall::CreateEni { token, place, unit, count } => {
                if let Some(eni) = self.enis.values().find(|eni| eni.token.as_ref() == Some(token)) {
                    return Ok(CloudAnswer::Created(eni.truth.clone()));
                }
                let id: EniId = format!("eni-{}-{}", self.enis.len(), self.calls.len()).parse().unwrap();
                let mut truth = self.new_eni(id.clone(), &place.subnet, *unit, *count)?;
                truth.groups.clone_from(&place.groups);
                let eni = CloudEni { truth: truth.clone(), token: Some(token.clone()), delete_on_termination: false };
                self.enis.insert(id, eni);
                Ok(CloudAnswer::Created(truth))
            }
            CloudCall::AttachEni { eni, card, device } => {
                let due = self.now + self.call_takes + self.link_takes;
                let attached = self.enis.values().filter_map(|other| other.truth.attachment.as_ref());
                let (count, taken) = (attached.clone().count(), attached.clone().any(|tie| tie.2 == *device));
                let eni = self.enis.get_mut(eni).ok_or_else(missing)?;
                let refused = |class, code| Err(failure(class, "AttachNetworkInterface", code));
                if eni.truth.attachment.is_some() {
                    return refused(FailureClass::WrongState, "InvalidNetworkInterface.InUse");
                }
                if count >= self.eni_limit {
                    return refused(FailureClass::EniLimit, "AttachmentLimitExceeded");
                }
                if eni.truth.slots.len() > self.slot_limit {
                    return refused(FailureClass::AddressLimit, "PrivateIpAddressLimitExceeded");
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
                if truth.slots.len() + *count as usize > self.slot_limit {
                    return Err(failure(FailureClass::AddressLimit, "Assign", "PrivateIpAddressLimitExceeded"));
                }
                let slots = self.subnets.get_mut(&truth.subnet).unwrap().take(*unit, *count)?;
                self.enis.get_mut(eni).unwrap().truth.slots.extend(&slots);
                Ok(CloudAnswer::Assigned(slots))
            }
            CloudCall::Unassign { eni, slots } => {
                let living = self.living_on(slots);
                let truth = &mut self.enis.get_mut(eni).ok_or_else(missing)?.truth;
                if !slots.iter().all(|slot| truth.slots.contains(slot)) {
                    return Err(failure(FailureClass::Other, "UnassignPrivateIpAddresses", "InvalidParameterValue"));
                }
                assert_eq!(living, Vec::<String>::new(), "addresses of living pods are given back: {slots:?}");
                truth.slots.retain(|slot| !slots.contains(slot));
                let freed: u32 = slots.iter().map(|slot| slot.size()).sum();
                self.subnets.get_mut(&truth.subnet).unwrap().truth.free += freed;
                Ok(CloudAnswer::Done)
            }
            CloudCall::Describe { eni } => Ok(CloudAnswer::Described(self.enis.get(eni).map(|eni| eni.truth.clone()))),
            CloudCall::DescribeNode => {
                // One whose tie is being cut, too: it is neither attached nor available.
                let here = self.enis.values().filter(|eni| eni.truth.attachment.is_some() || !eni.truth.available);
                Ok(CloudAnswer::Node(here.map(|eni| eni.truth.clone()).collect()))
            }
            CloudCall::SetGroups { eni, groups } => {
                self.enis.get_mut(eni).ok_or_else(missing)?.truth.groups.clone_from(groups);
                Ok(CloudAnswer::Done)
            }
            CloudCall::Tag { enis, tags } => {
                for eni in enis {
                    self.enis.get_mut(eni).ok_or_else(missing)?.truth.tags.extend(tags.clone());
                    if tags.contains_key(CREATED_AT_TAG) {
                        self.created.insert(eni.clone(), wall(self.now));
                    }
                }
                Ok(CloudAnswer::Done)
            }
            CloudCall::Subnets { also } => {
                let wanted = |subnet: &&PaperSubnet| {
                    let here = subnet.truth.vpc.as_str() == "vpc-1" && subnet.truth.zone == "us-west-2a";
                    here || also.contains(&subnet.truth.id)
                };
                Ok(CloudAnswer::Subnets(self.subnets.values().filter(wanted).map(|s| s.truth.clone()).collect()))
            }
            CloudCall::FindLeaked => {
                let free = self.enis.values().map(|eni| &eni.truth);
                let free = free.filter(|truth| truth.available && truth.tags.contains_key(INSTANCE_TAG));
                let leaked = |truth: &EniTruth| LeakedEni {
                    id: truth.id.clone(),
                    created: self.created.get(&truth.id).copied(),
                };
                Ok(CloudAnswer::Leaked(free.map(leaked).collect()))
            }
            CloudCall::Limits => match self.limits {
                Some((max_enis, slots_per_eni, prefixes)) => {
                    Ok(CloudAnswer::Limits { max_enis, slots_per_eni, prefixes })
                }
                None => Err(failure(FailureClass::Unauthorized, "DescribeInstanceTypes", "UnauthorizedOperation")),
            },
            CloudCall::Detach { eni, .. } => {
                let slots = self.enis.get(eni).ok_or_else(missing)?.truth.slots.clone();
                assert_eq!(self.living_on(&slots), Vec::<String>::new(), "an ENI of living pods is detached");
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
                let freed: u32 = 1 + gone.truth.slots.iter().map(|slot| slot.size()).sum::<u32>();
                self.subnets.get_mut(&gone.truth.subnet).unwrap().truth.free += freed;
                Ok(CloudAnswer::Done)
            }
        }
    }

    fn new_eni(&mut self, id: EniId, subnet: &SubnetId, unit: Unit, count: u32) -> Result<EniTruth, CloudFailure> {
        let unknown = || failure(FailureClass::NotFound, "Create", "InvalidSubnetID.NotFound");
        let place = self.subnets.get_mut(subnet).ok_or_else(unknown)?;
        let before = place.clone();
        let slots = place.take(Unit::Address, 1).and_then(|own| Ok((own, place.take(unit, count)?)));
        // All or nothing.
        let (own, slots) = slots.inspect_err(|_| *place = before)?;
        self.made += 1;
        let [high, low] = self.made.to_be_bytes();
        Ok(EniTruth {
            id,
            mac: Mac([2, 0, 0, 1, high, low]),
            primary: own[0].address().unwrap(),
            slots,
            attachment: None,
            available: true,
            kind: EniKind::Ordinary,
            subnet: subnet.clone(),
            groups: vec![],
            tags: BTreeMap::from([(INSTANCE_TAG.to_owned(), "i-1".to_owned())]),
            delete_on_termination: None,
        })
    }
}

pub fn wall(at: Time) -> WallTime {
    WallTime(i64::try_from(at.0).unwrap() * 1_000_000)
}

pub fn kind_of(call: &CloudCall) -> &'static str {
    match call {
        CloudCall::CreateEni { .. } => "Create",
        CloudCall::AttachEni { .. } => "Attach",
        CloudCall::DeleteOnTermination { .. } => "Modify",
        CloudCall::Assign { .. } => "Assign",
        CloudCall::Describe { .. } => "Describe",
        CloudCall::Detach { .. } => "Detach",
        CloudCall::Delete { .. } => "Delete",
        CloudCall::FindStrays => "Strays",
        CloudCall::DescribeNode => "Node",
        CloudCall::Unassign { .. } => "Unassign",
        CloudCall::SetGroups { .. } => "Groups",
        CloudCall::Tag { .. } => "Tag",
        CloudCall::Subnets { .. } => "Subnets",
        CloudCall::FindLeaked => "Leaked",
        CloudCall::Limits => "Limits",
    }
}

pub(super) fn failure(class: FailureClass, action: &str, code: &str) -> CloudFailure {
    let message = "as the test has it".to_owned();
    CloudFailure { class, action: action.to_owned(), code: code.to_owned(), message, lost_before: false }
}
