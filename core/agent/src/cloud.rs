//! What the agent asks of the cloud and hears from it, in the agent's words. The edge spells them in EC2's.

use std::fmt;
use std::net::Ipv4Addr;

use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, Mac, Millis, Slot};

/// The number of something that was sent out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// One call to EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudCall {
    /// Create an ENI in the node's subnet with the primary ENI's security groups, with `addresses` secondary addresses.
    /// The same token never makes two ENIs.
    CreateEni {
        /// Idempotency token.
        token: String,
        /// Secondary addresses it comes with.
        addresses: u32,
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
    /// Put more secondary addresses on an ENI.
    Assign {
        /// Which.
        eni: EniId,
        /// How many.
        count: u32,
    },
    /// Say what an ENI is and holds.
    Describe {
        /// Which.
        eni: EniId,
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
}

impl fmt::Display for CloudCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateEni { addresses, .. } => write!(f, "creating an ENI with {addresses} addresses"),
            Self::AttachEni { eni, device, .. } => write!(f, "attaching {eni} at position {device}"),
            Self::DeleteOnTermination { eni, .. } => write!(f, "setting delete-on-termination of {eni}"),
            Self::Assign { eni, count } => write!(f, "assigning {count} addresses to {eni}"),
            Self::Describe { eni } => write!(f, "describing {eni}"),
            Self::Detach { eni, .. } => write!(f, "detaching {eni}"),
            Self::Delete { eni } => write!(f, "deleting {eni}"),
            Self::FindStrays => f.write_str("looking for ENIs that an earlier life of this daemon left behind"),
        }
    }
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
    /// How it is tied to this instance, if it is: attachment, card, position, and whether the tie is complete.
    pub attachment: Option<(AttachmentId, CardIndex, DeviceIndex)>,
    /// Nothing uses it: it can be deleted.
    pub available: bool,
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
    /// To [`CloudCall::FindStrays`].
    Strays(Vec<EniId>),
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
    /// The subnet has no room, in any of EC2's three wordings.
    SubnetExhausted,
    /// The ENI holds all the addresses its type allows.
    AddressLimit,
    /// The instance, or the account, has all the ENIs it may have.
    EniLimit,
    /// What was named does not exist.
    NotFound,
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
}

impl FailureClass {
    /// How long to leave EC2 alone after this, the first time. Doubled for each failure in a row, up to [`Self::LONGEST`].
    #[must_use]
    pub fn pause(self) -> Millis {
        match self {
            Self::Throttled => Millis::seconds(1),
            // The reference's 120 s is its longest word; a shorter first pause lets a freed address be found sooner.
            Self::SubnetExhausted => Millis::seconds(5),
            Self::Unauthorized | Self::EniLimit => Millis::seconds(15),
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
            FailureClass::Throttled => " (the account's request rate is exceeded)",
            FailureClass::EniLimit => " (no more ENIs are allowed here)",
            FailureClass::Lost => " (its answer was lost)",
            _ => "",
        };
        write!(f, "{} said {}: {}{way_out}", self.action, self.code, self.message)
    }
}
