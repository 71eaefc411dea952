//! Pairs that can be, and that a campaign of some millions of steps may miss.
//!
//! Measured, with three campaigns of two million steps each and different seeds: what each of them hit, and at least two of them twice
//! on average, is demanded; a campaign of ten million steps that misses one has lost it. Make a situation or an input more frequent
//! (`history/draw.rs`), and its row shrinks.

use vpc_agent::Purpose;
use vpc_agent::Situation::{
    self, Bound, Cordoned, DiskSick, Full, GivingBack, Growing, HostSick, Pausing, Quiet, Refused, Resting, Restored,
    Terminating, Unheard, Waiting,
};

use super::{Ended, Kind, Plain};

/// An input that is demanded in some situations only.
#[derive(Clone, Copy, Debug)]
pub struct Seldom {
    /// The input.
    pub input: Kind,
    /// Where it is demanded.
    pub but: &'static [Situation],
    /// Why it may be missed elsewhere.
    pub why: &'static str,
}

impl Seldom {
    /// Why it may be missed in a situation.
    #[must_use]
    pub fn why(&self, situation: Situation) -> &'static str {
        let changes = match self.input {
            Kind::Ec2(purpose, _) => !matches!(
                purpose,
                Purpose::Describe | Purpose::DescribeNode | Purpose::Subnets | Purpose::Find | Purpose::Limits
            ),
            Kind::Plain(_) => false,
        };
        match situation {
            Terminating => "a daemon that is asked to end does so within seconds",
            Bound if changes => "the settings were changed to it while the call was under way",
            _ => self.why,
        }
    }
}

const MOMENTS: &str = "the situation lasts moments, or leaves little that could cause it";
const FEW_CALLS: &str = "few such calls are under way in the situation";
const FEW_REFUSED: &str =
    "few such calls are under way in the situation, and the client has asked three times before most refusals";
const FEW_LOST: &str =
    "few such calls are under way in the situation, and where it may the client asks again before an answer is lost";

/// All of them.
pub const SELDOM: &[Seldom] = &[
    Seldom {
        input: Kind::Plain(Plain::HostUnseen),
        but: &[DiskSick, HostSick, Restored, Unheard, Bound, Resting, Full, GivingBack, Quiet],
        why: MOMENTS,
    },
    Seldom {
        input: Kind::Plain(Plain::HostUnchanged),
        but: &[HostSick, Restored, Unheard, Resting, Quiet],
        why: MOMENTS,
    },
    Seldom {
        input: Kind::Plain(Plain::MetadataRead),
        but: &[
            DiskSick, HostSick, Restored, Unheard, Bound, Waiting, Refused, Resting, Full, Cordoned, GivingBack,
            Pausing, Growing, Quiet,
        ],
        why: MOMENTS,
    },
    Seldom {
        input: Kind::Plain(Plain::MetadataUnread),
        but: &[DiskSick, HostSick, Bound, Refused, Resting, Full, Cordoned, GivingBack, Growing, Quiet],
        why: MOMENTS,
    },
    Seldom {
        input: Kind::Plain(Plain::Terminate),
        but: &[
            Terminating,
            DiskSick,
            Restored,
            Unheard,
            Bound,
            Refused,
            Resting,
            Full,
            Cordoned,
            GivingBack,
            Pausing,
            Growing,
            Quiet,
        ],
        why: MOMENTS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Create, Ended::Done),
        but: &[DiskSick, HostSick, Restored, Unheard, Waiting, Cordoned, GivingBack, Pausing, Growing],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Create, Ended::Refused),
        but: &[DiskSick, HostSick, Restored, Unheard, Waiting, GivingBack, Pausing, Growing],
        why: FEW_REFUSED,
    },
    Seldom { input: Kind::Ec2(Purpose::Create, Ended::Lost), but: &[Waiting, Growing], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Attach, Ended::Done),
        but: &[DiskSick, HostSick, Restored, Unheard, Waiting, Cordoned, GivingBack, Pausing, Growing],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Attach, Ended::Refused),
        but: &[DiskSick, Restored, Waiting, Pausing, Growing],
        why: FEW_REFUSED,
    },
    Seldom { input: Kind::Ec2(Purpose::Attach, Ended::Lost), but: &[Waiting, Growing], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Tie, Ended::Done),
        but: &[
            Terminating,
            DiskSick,
            HostSick,
            Restored,
            Unheard,
            Waiting,
            Refused,
            Resting,
            Full,
            Cordoned,
            GivingBack,
            Pausing,
            Growing,
            Quiet,
        ],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Tie, Ended::Refused),
        but: &[DiskSick, Waiting, Resting, Full, GivingBack, Pausing, Growing, Quiet],
        why: FEW_REFUSED,
    },
    Seldom { input: Kind::Ec2(Purpose::Tie, Ended::Lost), but: &[Resting, GivingBack, Quiet], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Assign, Ended::Done),
        but: &[Terminating, DiskSick, HostSick, Restored, Unheard, Waiting, Cordoned, GivingBack, Pausing, Growing],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Assign, Ended::Refused),
        but: &[DiskSick, HostSick, Restored, Unheard, Waiting, Cordoned, GivingBack, Pausing, Growing],
        why: FEW_REFUSED,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Assign, Ended::Lost),
        but: &[DiskSick, Restored, Waiting, GivingBack, Growing],
        why: FEW_LOST,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Describe, Ended::Done),
        but: &[
            Terminating,
            DiskSick,
            HostSick,
            Restored,
            Unheard,
            Waiting,
            Resting,
            Full,
            Cordoned,
            GivingBack,
            Growing,
            Quiet,
        ],
        why: FEW_CALLS,
    },
    Seldom { input: Kind::Ec2(Purpose::Describe, Ended::Refused), but: &[GivingBack, Growing], why: FEW_REFUSED },
    Seldom {
        input: Kind::Ec2(Purpose::Describe, Ended::Lost),
        but: &[Waiting, Resting, GivingBack, Growing, Quiet],
        why: FEW_LOST,
    },
    Seldom {
        input: Kind::Ec2(Purpose::DescribeNode, Ended::Refused),
        but: &[
            DiskSick, HostSick, Restored, Unheard, Bound, Waiting, Refused, Resting, Full, Cordoned, GivingBack,
            Pausing, Growing, Quiet,
        ],
        why: FEW_REFUSED,
    },
    Seldom {
        input: Kind::Ec2(Purpose::DescribeNode, Ended::Lost),
        but: &[Restored, Unheard, Waiting, Resting, Full, GivingBack, Quiet],
        why: FEW_LOST,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Unassign, Ended::Done),
        but: &[Restored, Unheard, Waiting, Resting, GivingBack],
        why: FEW_CALLS,
    },
    Seldom { input: Kind::Ec2(Purpose::Unassign, Ended::Refused), but: &[GivingBack], why: FEW_REFUSED },
    Seldom { input: Kind::Ec2(Purpose::Unassign, Ended::Lost), but: &[GivingBack], why: FEW_LOST },
    Seldom { input: Kind::Ec2(Purpose::Detach, Ended::Done), but: &[Restored, GivingBack], why: FEW_CALLS },
    Seldom { input: Kind::Ec2(Purpose::Detach, Ended::Refused), but: &[GivingBack], why: FEW_REFUSED },
    Seldom { input: Kind::Ec2(Purpose::Detach, Ended::Lost), but: &[GivingBack], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Delete, Ended::Done),
        but: &[Restored, Unheard, Waiting, Refused, Resting, Full, GivingBack, Pausing, Quiet],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Delete, Ended::Refused),
        but: &[DiskSick, Refused, Full, GivingBack, Pausing, Growing, Quiet],
        why: FEW_REFUSED,
    },
    Seldom { input: Kind::Ec2(Purpose::Delete, Ended::Lost), but: &[GivingBack], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::SetGroups, Ended::Done),
        but: &[Restored, Resting, Cordoned, Quiet],
        why: FEW_CALLS,
    },
    Seldom { input: Kind::Ec2(Purpose::SetGroups, Ended::Refused), but: &[], why: FEW_REFUSED },
    Seldom { input: Kind::Ec2(Purpose::SetGroups, Ended::Lost), but: &[], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Tag, Ended::Done),
        but: &[DiskSick, HostSick, Restored, Waiting, Resting, Full, Cordoned, GivingBack, Pausing, Growing, Quiet],
        why: FEW_CALLS,
    },
    Seldom { input: Kind::Ec2(Purpose::Tag, Ended::Refused), but: &[Resting, Full, Growing, Quiet], why: FEW_REFUSED },
    Seldom { input: Kind::Ec2(Purpose::Tag, Ended::Lost), but: &[Quiet], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Subnets, Ended::Done),
        but: &[
            DiskSick, HostSick, Restored, Unheard, Bound, Waiting, Refused, Resting, Full, Cordoned, GivingBack,
            Pausing, Growing, Quiet,
        ],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Subnets, Ended::Refused),
        but: &[Restored, Unheard, Resting, Full, Pausing, Quiet],
        why: FEW_REFUSED,
    },
    Seldom { input: Kind::Ec2(Purpose::Subnets, Ended::Lost), but: &[Resting, Full, Quiet], why: FEW_LOST },
    Seldom {
        input: Kind::Ec2(Purpose::Find, Ended::Done),
        but: &[
            DiskSick, HostSick, Unheard, Waiting, Refused, Resting, Full, Cordoned, GivingBack, Pausing, Growing, Quiet,
        ],
        why: FEW_CALLS,
    },
    Seldom {
        input: Kind::Ec2(Purpose::Find, Ended::Refused),
        but: &[Unheard, Refused, Resting, Quiet],
        why: FEW_REFUSED,
    },
    Seldom { input: Kind::Ec2(Purpose::Find, Ended::Lost), but: &[Quiet], why: FEW_LOST },
];
