//! What the agent asks of the cloud and hears from it, in the agent's words. The edge spells them in EC2's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use vpc_ipam::Unit;
use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, Mac, Millis, SecurityGroupId, Slot, Subnet, SubnetId, VpcId, WallTime,
};

/// The number of something that was sent out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// One call to EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudCall {
    /// Create an ENI with what it carries. The same token never makes two ENIs.
    CreateEni {
        /// Idempotency token.
        token: String,
        /// Where.
        place: Place,
        /// In what it grows.
        unit: Unit,
        /// Positions it comes with.
        count: u32,
    },
    /// Attach it to this instance.
    AttachEni {
        /// Which.
        eni: EniId,
        /// Card to use.
        card: CardIndex,
        /// Position to use.
        device: DeviceIndex,
    },
    /// Let it go with the instance when that is terminated.
    DeleteOnTermination {
        /// Which.
        eni: EniId,
        /// Its attachment.
        attachment: AttachmentId,
    },
    /// Put more on an ENI.
    Assign {
        /// Which.
        eni: EniId,
        /// What.
        unit: Unit,
        /// How many positions.
        count: u32,
    },
    /// Take addresses or prefixes (of one kind) off an ENI.
    Unassign {
        /// Which.
        eni: EniId,
        /// What.
        slots: Vec<Slot>,
    },
    /// Say what an ENI is and holds.
    Describe {
        /// Which.
        eni: EniId,
    },
    /// Say what all ENIs of this instance are and hold.
    DescribeNode,
    /// Give an ENI these security groups, and no others.
    SetGroups {
        /// Which.
        eni: EniId,
        /// Groups.
        groups: Vec<SecurityGroupId>,
    },
    /// Put tags on ENIs: all of ours that are missing or different, on all of these at once.
    Tag {
        /// Which.
        enis: Vec<EniId>,
        /// Key and value.
        tags: BTreeMap<String, String>,
    },
    /// List subnets: those of the VPC in this zone, and these besides (an ENIConfig may name one of anywhere).
    Subnets {
        /// Ids to look up besides the zone's, if any.
        also: Vec<SubnetId>,
    },
    /// Detach it.
    Detach {
        /// Which.
        eni: EniId,
        /// Its attachment.
        attachment: AttachmentId,
    },
    /// Delete it.
    Delete {
        /// Which.
        eni: EniId,
    },
    /// List ENIs that this daemon made for this instance and that nothing uses.
    FindStrays,
    /// List ENIs that a daemon of any node of this cluster made and that nothing uses.
    FindLeaked,
    /// Say the limits of this instance type.
    Limits,
}

/// Where an ENI is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which subnet.
    pub subnet: SubnetId,
    /// With which security groups.
    pub groups: Vec<SecurityGroupId>,
}

impl fmt::Display for CloudCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateEni { place, unit, count, .. } => {
                write!(f, "creating an ENI with {} in {}", amount(*unit, *count), place.subnet)
            }
            Self::AttachEni { eni, device, .. } => write!(f, "attaching {eni} at position {device}"),
            Self::DeleteOnTermination { eni, .. } => write!(f, "setting delete-on-termination of {eni}"),
            Self::Assign { eni, unit, count } => write!(f, "assigning {} to {eni}", amount(*unit, *count)),
            Self::Unassign { eni, slots } => write!(f, "giving {} positions of {eni} back", slots.len()),
            Self::Describe { eni } => write!(f, "describing {eni}"),
            Self::DescribeNode => f.write_str("describing the ENIs of this instance"),
            Self::SetGroups { eni, .. } => write!(f, "setting the security groups of {eni}"),
            Self::Tag { enis, .. } => write!(f, "tagging {} ENIs", enis.len()),
            Self::Subnets { .. } => f.write_str("listing subnets"),
            Self::Detach { eni, .. } => write!(f, "detaching {eni}"),
            Self::Delete { eni } => write!(f, "deleting {eni}"),
            Self::FindStrays => f.write_str("looking for ENIs that an earlier life of this daemon left behind"),
            Self::FindLeaked => f.write_str("looking for ENIs that lost nodes left behind"),
            Self::Limits => f.write_str("asking for the limits of the instance type"),
        }
    }
}

fn amount(unit: Unit, count: u32) -> String {
    match (unit, count) {
        (Unit::Address, 1) => "1 address".to_owned(),
        (Unit::Address, count) => format!("{count} addresses"),
        (Unit::Prefix, 1) => "1 prefix".to_owned(),
        (Unit::Prefix, count) => format!("{count} prefixes"),
    }
}

/// What kind of interface it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EniKind {
    /// An ordinary one.
    #[default]
    Ordinary,
    /// An EFA with IP: carries pods, is never given back.
    Efa,
    /// An EFA without IP: carries none.
    EfaOnly,
    /// A trunk: carries other ENIs.
    Trunk,
    /// One that a service made: not ours.
    Other,
}

/// What EC2 says an ENI is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniTruth {
    /// Its id.
    pub id: EniId,
    /// Its hardware address.
    pub mac: Mac,
    /// Its own address.
    pub primary: Ipv4Addr,
    /// Its secondary positions.
    pub slots: Vec<Slot>,
    /// How it is tied to this instance, if it is: attachment, card and position.
    pub attachment: Option<(AttachmentId, CardIndex, DeviceIndex)>,
    /// Nothing uses it: it can be deleted.
    pub available: bool,
    /// Its kind.
    pub kind: EniKind,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its security groups.
    pub groups: Vec<SecurityGroupId>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it goes with the instance, where the tie says so.
    pub delete_on_termination: Option<bool>,
}

/// What EC2 says of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetTruth {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its availability zone.
    pub zone: String,
    /// Its network.
    pub net: Subnet,
    /// Addresses nobody has.
    pub free: u32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// An ENI that nothing uses and a daemon like this made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakedEni {
    /// Its id.
    pub id: EniId,
    /// When it was made, if its tag says so readably.
    pub created: Option<WallTime>,
}

/// What EC2 answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudAnswer {
    /// To [`CloudCall::CreateEni`].
    Created(EniTruth),
    /// To [`CloudCall::AttachEni`].
    Attached(AttachmentId),
    /// To [`CloudCall::Assign`]: what is new.
    Assigned(Vec<Slot>),
    /// To [`CloudCall::Describe`]; `None` = EC2 knows no such ENI.
    Described(Option<EniTruth>),
    /// To [`CloudCall::DescribeNode`].
    Node(Vec<EniTruth>),
    /// To [`CloudCall::Subnets`].
    Subnets(Vec<SubnetTruth>),
    /// To [`CloudCall::FindStrays`].
    Strays(Vec<EniId>),
    /// To [`CloudCall::FindLeaked`].
    Leaked(Vec<LeakedEni>),
    /// To [`CloudCall::Limits`].
    Limits {
        /// ENIs on network card 0.
        max_enis: u32,
        /// Secondary positions of each.
        slots_per_eni: u32,
        /// Prefixes can be had.
        prefixes: bool,
    },
    /// To the others.
    Done,
}

/// What kind of failure it is: decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// Too many calls for the account.
    Throttled,
    /// The node's role may not do this.
    Unauthorized,
    /// The subnet has no room, in any of EC2's wordings.
    SubnetExhausted,
    /// The subnet has free addresses and no free /28 (`InsufficientCidrBlocks`).
    Fragmented,
    /// The ENI holds all the addresses its type allows.
    AddressLimit,
    /// The instance, or the account, has all the ENIs it may have.
    EniLimit,
    /// What was named does not exist.
    NotFound,
    /// A security group that was named does not exist.
    GroupNotFound,
    /// What was named is in another state than the call needs (in use, attaching …).
    WrongState,
    /// The call may or may not have been carried out: its answer was lost.
    Lost,
    /// The call did not reach EC2.
    Unreachable,
    /// Anything else EC2 refused or failed at.
    Other,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudFailure {
    /// What kind.
    pub class: FailureClass,
    /// EC2's action.
    pub action: String,
    /// EC2's code (`InsufficientFreeAddressesInSubnet`), or the transport's word.
    pub code: String,
    /// EC2's message.
    pub message: String,
    /// The call had been sent before, and that answer was lost: EC2 may have carried it out then, whatever it says now.
    pub lost_before: bool,
}

impl CloudFailure {
    /// Whether EC2 may have done what was asked, or do it yet.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        self.class == FailureClass::Lost || self.lost_before
    }
}

impl FailureClass {
    /// How long to leave EC2 alone after this, the first time. Doubled for each failure in a row, up to [`Self::LONGEST`].
    #[must_use]
    pub fn pause(self) -> Millis {
        match self {
            Self::Throttled => Millis::seconds(1),
            // The reference's 120 s is its longest word; a shorter first pause lets a freed address be found sooner.
            Self::SubnetExhausted | Self::Fragmented => Millis::seconds(5),
            Self::Unauthorized | Self::EniLimit | Self::GroupNotFound => Millis::seconds(15),
            Self::AddressLimit | Self::NotFound | Self::WrongState | Self::Lost => Millis(500),
            Self::Unreachable | Self::Other => Millis::seconds(1),
        }
    }

    /// Longest pause (the reference's pause after an exhausted subnet).
    pub const LONGEST: Millis = Millis::seconds(120);
}

impl fmt::Display for CloudFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way_out = match self.class {
            FailureClass::Unauthorized => " (allow this action in the node role's policy)",
            FailureClass::SubnetExhausted => " (the subnet has no free addresses: free some, or use a larger subnet)",
            FailureClass::Fragmented => {
                " (the subnet has no free /28: reserve a block for prefixes, or use another subnet)"
            }
            FailureClass::GroupNotFound => {
                " (name security groups that exist: in the node's ENIConfig, or on the primary ENI)"
            }
            FailureClass::Throttled => " (the account's request rate is exceeded)",
            FailureClass::EniLimit => " (no more ENIs are allowed here)",
            FailureClass::Lost => " (its answer was lost)",
            _ => "",
        };
        write!(f, "{} said {}: {}{way_out}", self.action, self.code, self.message)
    }
}
