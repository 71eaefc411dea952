//! The faults that hold now: injected, listed, lifted.
//!
//! [`Cloud::inject`] checks names and values against the world and does at once what is done once (taking addresses,
//! freezing what IMDS shows); [`Cloud::lift`] undoes it. What a fault does to each request is asked for along its way: `gate`
//! for EC2 calls, `imds_faults` for IMDS. Whoever asks counts a hit.

use std::collections::BTreeMap;

use vpc_aws::ec2::shapes::ACTION_NAMES;
use vpc_model::{AttachmentId, InstanceId, Millis, SubnetId, Time};

use crate::cloud::{Caller, Cloud, Task};
use crate::describe::matches;
use crate::fault::{ActiveFault, CloudFault, FaultError, FaultId};
use crate::imds::Imds;
use crate::pool::AddressPool;
use crate::throttle::Level;

/// In the place of a node's name: all nodes, also those that come later.
const EVERY_NODE: &str = "*";
/// HTTP statuses of errors.
const ERROR_STATUS: std::ops::RangeInclusive<u16> = 400..=599;

/// All faults that hold now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    active: BTreeMap<FaultId, Active>,
    count: u64,
}

/// A fault and what it needs to remember.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    since: Time,
    pub(crate) fault: CloudFault,
    /// Whose requests are meant; `None`: everybody's.
    node: Option<InstanceId>,
    hits: u64,
    pub(crate) memory: Memory,
}

/// What a fault remembers.
#[derive(Clone, Debug, Default)]
pub(crate) enum Memory {
    /// Nothing.
    #[default]
    Nothing,
    /// Throttle: the bucket of each action.
    Buckets(BTreeMap<String, Level>),
    /// Error: calls that matched so far.
    Matched(u64),
    /// Exhausted, fragmented: the subnet in which addresses are held, under the fault's number.
    Taken(SubnetId),
    /// Stale: what IMDS shows of every instance.
    Frozen(Box<Imds>),
    /// Reordered: looks so far.
    Looks(u64),
    /// Stuck: attachments that wait.
    Held(Vec<AttachmentId>),
}

impl Active {
    /// Whether the fault is about requests of this instance.
    pub(crate) fn is_about(&self, instance: &InstanceId) -> bool {
        self.node.as_ref().is_none_or(|node| node == instance)
    }

    /// Whether the fault is about calls of this caller.
    pub(crate) fn is_about_caller(&self, caller: &Caller) -> bool {
        match (caller, &self.node) {
            (_, None) => true,
            (Caller::Instance(id), Some(node)) => id == node,
            (Caller::Account, Some(_)) => false,
        }
    }
}

impl Faults {
    /// Whether no fault holds.
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// All of them, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (FaultId, &Active)> {
        self.active.iter().map(|(id, active)| (*id, active))
    }

    /// All of them, to change what they remember.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (FaultId, &mut Active)> {
        self.active.iter_mut().map(|(id, active)| (*id, active))
    }

    /// Counts a request that these faults touched.
    pub(crate) fn hit(&mut self, touched: &[FaultId]) {
        for id in touched {
            if let Some(active) = self.active.get_mut(id) {
                active.hits += 1;
            }
        }
    }

    /// By how many milliseconds the cloud's calendar is off.
    pub(crate) fn skew_ms(&self) -> i64 {
        let skews = self.active.values().filter_map(|active| match active.fault {
            CloudFault::ClockSkew { by_ms } => Some(by_ms),
            _ => None,
        });
        skews.fold(0, i64::saturating_add)
    }
}

impl Cloud {
    /// Makes something go wrong, from now until it is lifted.
    ///
    /// # Errors
    /// A node, subnet or action that does not exist, or a value that is not accepted.
    pub fn inject(&mut self, now: Time, fault: CloudFault) -> Result<FaultId, FaultError> {
        self.catch_up(now);
        check_values(&fault)?;
        let node = fault.node().filter(|name| *name != EVERY_NODE).map(|name| self.known_node(name)).transpose()?;
        let id = FaultId(self.faults.count + 1);
        let memory = self.begin(id, &fault)?;
        self.faults.count = id.0;
        self.faults.active.insert(id, Active { since: self.now, fault, node, hits: 0, memory });
        Ok(id)
    }

    /// A number for a fault that is not the cloud's own, so that all faults of a lab are numbered in one row.
    pub fn reserve_fault(&mut self) -> FaultId {
        self.faults.count += 1;
        FaultId(self.faults.count)
    }

    /// Ends a fault. What it held back goes on from now.
    ///
    /// # Errors
    /// There is no such fault.
    pub fn lift(&mut self, now: Time, id: FaultId) -> Result<(), FaultError> {
        self.catch_up(now);
        let lifted = self.faults.active.remove(&id).ok_or_else(|| FaultError::Unknown {
            field: "id".to_owned(),
            kind: "fault".to_owned(),
            name: id.to_string(),
            expected: one_of(self.faults.active.keys()),
        })?;
        match lifted.memory {
            Memory::Taken(subnet) => {
                if let Some(subnet) = self.world.subnets.get_mut(&subnet) {
                    subnet.pool.give_back(id.0);
                }
            }
            Memory::Held(attachments) => attachments.into_iter().for_each(|id| self.begin_attachment(id)),
            Memory::Nothing | Memory::Buckets(_) | Memory::Matched(_) | Memory::Frozen(_) | Memory::Looks(_) => {}
        }
        Ok(())
    }

    /// The faults that hold now, oldest first.
    #[must_use]
    pub fn faults(&self) -> Vec<ActiveFault> {
        let shown = |(id, active): (FaultId, &Active)| ActiveFault {
            id,
            since_ms: active.since.0,
            fault: active.fault.clone(),
            hits: active.hits,
        };
        self.faults.iter().map(shown).collect()
    }

    /// By how many milliseconds the cloud's calendar is ahead (or behind, if negative) because of faults.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.faults.skew_ms()
    }

    /// The same for the check of a signature, with the faults that had a hand in it.
    pub fn skew_for_signature(&mut self) -> (i64, Vec<FaultId>) {
        let skewing =
            |(id, active): (FaultId, &Active)| matches!(active.fault, CloudFault::ClockSkew { .. }).then_some(id);
        let faults: Vec<_> = self.faults.iter().filter_map(skewing).collect();
        self.faults.hit(&faults);
        (self.faults.skew_ms(), faults)
    }

    /// Does what a fault does at once, and gives what it remembers.
    fn begin(&mut self, id: FaultId, fault: &CloudFault) -> Result<Memory, FaultError> {
        Ok(match fault {
            CloudFault::Throttle { .. } => Memory::Buckets(BTreeMap::new()),
            CloudFault::Error { .. } => Memory::Matched(0),
            CloudFault::SubnetExhausted { subnet, leave } => self.crowd(subnet, |pool| pool.exhaust(id.0, *leave))?,
            CloudFault::SubnetFragmented { subnet, leave } => self.crowd(subnet, |pool| pool.fragment(id.0, *leave))?,
            CloudFault::ImdsStale { .. } => Memory::Frozen(Box::new(self.imds.clone())),
            CloudFault::ImdsReordered { .. } => Memory::Looks(0),
            CloudFault::AttachStuck { .. } => Memory::Held(Vec::new()),
            CloudFault::Latency { .. }
            | CloudFault::Deny { .. }
            | CloudFault::ImdsPartial { .. }
            | CloudFault::ImdsMissing { .. }
            | CloudFault::ImdsHollow { .. }
            | CloudFault::ImdsUnauthorized { .. }
            | CloudFault::ImdsError { .. }
            | CloudFault::ImdsSlow { .. }
            | CloudFault::DetachSlow { .. }
            | CloudFault::ClockSkew { .. } => Memory::Nothing,
        })
    }

    /// Lets somebody outside take addresses of a subnet.
    fn crowd(&mut self, name: &str, take: impl FnOnce(&mut AddressPool)) -> Result<Memory, FaultError> {
        let known = one_of(self.world.subnets.values().map(|subnet| &subnet.spec.name));
        let found = self.world.subnets.values().find(|own| own.spec.name == name || own.spec.id.as_str() == name);
        let found = found.map(|subnet| subnet.spec.id.clone());
        let subnet = found
            .and_then(|id| self.world.subnets.get_mut(&id))
            .ok_or_else(|| unknown("subnet", "subnet", name, known))?;
        take(&mut subnet.pool);
        Ok(Memory::Taken(subnet.spec.id.clone()))
    }

    /// The instance that people call so.
    fn known_node(&self, name: &str) -> Result<InstanceId, FaultError> {
        let instances = || self.world.instances.values().map(|instance| &instance.spec);
        let found = instances().find(|spec| spec.name == name || spec.id.as_str() == name);
        found.map(|spec| spec.id.clone()).ok_or_else(|| {
            let known = one_of(instances().map(|spec| &spec.name));
            unknown("node", "instance", name, format!("{known}, or `{EVERY_NODE}` for all"))
        })
    }

    // -- asked for by the actions --------------------------------------------------------------------------------------

    /// How much longer a detachment from an instance takes.
    pub(crate) fn detach_delay(&mut self, instance: &InstanceId) -> Millis {
        let mut delay = 0_u64;
        for (id, active) in self.faults.iter_mut().filter(|(_, active)| active.is_about(instance)) {
            if let CloudFault::DetachSlow { by_ms, .. } = active.fault {
                delay = delay.saturating_add(by_ms);
                self.touched.push(id);
            }
        }
        Millis(delay)
    }

    /// Whether an attachment is held in `attaching`; it goes on when the fault is lifted.
    pub(crate) fn holds_attachment(&mut self, instance: &InstanceId, attachment: &AttachmentId) -> bool {
        for (id, active) in self.faults.iter_mut().filter(|(_, active)| active.is_about(instance)) {
            if let Memory::Held(held) = &mut active.memory {
                held.push(attachment.clone());
                self.touched.push(id);
                return true;
            }
        }
        false
    }

    /// What follows an attachment: the guest sees the device, IMDS lists it. Nothing if it has ended meanwhile.
    pub(crate) fn begin_attachment(&mut self, id: AttachmentId) {
        if self.world.attached_as(&id).is_some() {
            self.later(self.setup.profile.guest_sees, Task::Attached(id.clone()));
            self.later(self.setup.profile.imds_mac, Task::ImdsMac(id));
        }
    }
}

impl CloudFault {
    /// Name or id of the node that is meant, if one is; `*`: all of them.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Latency { node, .. }
            | Self::Deny { node, .. }
            | Self::Error { node, .. }
            | Self::DetachSlow { node, .. }
            | Self::AttachStuck { node } => node.as_deref(),
            Self::ImdsStale { node }
            | Self::ImdsPartial { node }
            | Self::ImdsReordered { node }
            | Self::ImdsMissing { node, .. }
            | Self::ImdsHollow { node }
            | Self::ImdsUnauthorized { node }
            | Self::ImdsError { node, .. }
            | Self::ImdsSlow { node, .. } => Some(node),
            Self::Throttle { .. }
            | Self::SubnetExhausted { .. }
            | Self::SubnetFragmented { .. }
            | Self::ClockSkew { .. } => None,
        }
    }

    /// The pattern of the actions that are meant, if some are.
    #[must_use]
    pub fn action(&self) -> Option<&str> {
        match self {
            Self::Latency { action, .. }
            | Self::Throttle { action, .. }
            | Self::Deny { action, .. }
            | Self::Error { action, .. } => Some(action),
            _ => None,
        }
    }
}

/// Checks what can be wrong whatever the world is.
fn check_values(fault: &CloudFault) -> Result<(), FaultError> {
    if let Some(pattern) = fault.action()
        && !ACTION_NAMES.iter().any(|name| matches(pattern, name))
    {
        let known = one_of(ACTION_NAMES);
        return Err(value("action", pattern, &format!("a pattern (`*`, `?`) that fits {known}")));
    }
    let status = match fault {
        CloudFault::Error { status, .. } => *status,
        CloudFault::ImdsError { status, .. } => Some(*status),
        _ => None,
    };
    if let Some(status) = status.filter(|status| !ERROR_STATUS.contains(status)) {
        return Err(value("status", &status.to_string(), "the status of an HTTP error, 400 to 599"));
    }
    match fault {
        CloudFault::Error { code, .. } if code.is_empty() || !code.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(value("code", code, "an error code of EC2, such as InternalError"))
        }
        CloudFault::Error { times: Some(0), .. } => Err(value("times", "0", "a number from 1, or nothing for all")),
        _ => Ok(()),
    }
}

fn value(field: &str, value: &str, expected: &str) -> FaultError {
    FaultError::Value { field: field.to_owned(), value: value.to_owned(), expected: expected.to_owned() }
}

pub(crate) fn unknown(field: &str, kind: &str, name: &str, expected: String) -> FaultError {
    FaultError::Unknown { field: field.to_owned(), kind: kind.to_owned(), name: name.to_owned(), expected }
}

/// `one of a, b, c`, or what to say if there is nothing.
pub(crate) fn one_of<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let mut names: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    names.sort();
    if names.is_empty() { "nothing: there is none".to_owned() } else { format!("one of {}", names.join(", ")) }
}
