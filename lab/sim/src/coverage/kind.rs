//! Kinds of inputs.

use std::fmt;

use vpc_agent::{Agent, CloudAnswer, CloudFailure, FailureClass, Input, Purpose};

/// A kind of input: answers of EC2 are told apart by what was asked and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No answer of EC2 to somebody who waits.
    Plain(Plain),
    /// EC2's answer.
    Ec2(Purpose, Ended),
}

/// Inputs that are no answer of EC2 to somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// A pod wants an address.
    Add,
    /// The caller of an ADD has gone.
    AddAbandoned,
    /// A sandbox has ended.
    Del,
    /// The host has been looked at.
    HostObserved,
    /// The host could not be looked at.
    HostUnseen,
    /// The host has been changed.
    HostApplied,
    /// The host could not be changed.
    HostUnchanged,
    /// The host changed by itself.
    HostChanged,
    /// A checkpoint is on disk.
    CheckpointWritten,
    /// A checkpoint could not be written.
    CheckpointFailed,
    /// The VPC's CIDRs.
    VpcCidrs,
    /// The metadata have been read.
    MetadataRead,
    /// The metadata could not be read.
    MetadataUnread,
    /// News of Kubernetes.
    Cluster,
    /// Other settings.
    Settings,
    /// Tracked connections have been forgotten, or not.
    FlowsFlushed,
    /// The daemon is asked to end.
    Terminate,
    /// Time has passed.
    Tick,
    /// An answer of EC2 that nobody waits for any more.
    LateAnswer,
    /// A runtime asks whether ADD can be served, for a lease, or for a GC.
    Inquiry,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Done,
    /// EC2 did nothing and said why, or could not be reached.
    Refused,
    /// Nobody knows whether it was carried out.
    Lost,
}

impl Plain {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Add,
        Self::AddAbandoned,
        Self::Del,
        Self::HostObserved,
        Self::HostUnseen,
        Self::HostApplied,
        Self::HostUnchanged,
        Self::HostChanged,
        Self::CheckpointWritten,
        Self::CheckpointFailed,
        Self::VpcCidrs,
        Self::MetadataRead,
        Self::MetadataUnread,
        Self::Cluster,
        Self::Settings,
        Self::FlowsFlushed,
        Self::Terminate,
        Self::Tick,
        Self::LateAnswer,
        Self::Inquiry,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::AddAbandoned => "add-abandoned",
            Self::Del => "del",
            Self::HostObserved => "host-observed",
            Self::HostUnseen => "host-unseen",
            Self::HostApplied => "host-applied",
            Self::HostUnchanged => "host-unchanged",
            Self::HostChanged => "host-changed",
            Self::CheckpointWritten => "checkpoint-written",
            Self::CheckpointFailed => "checkpoint-failed",
            Self::VpcCidrs => "vpc-cidrs",
            Self::MetadataRead => "metadata-read",
            Self::MetadataUnread => "metadata-unread",
            Self::Cluster => "cluster",
            Self::Settings => "settings",
            Self::FlowsFlushed => "flows-flushed",
            Self::Terminate => "terminate",
            Self::Tick => "tick",
            Self::LateAnswer => "late-answer",
            Self::Inquiry => "inquiry",
        }
    }
}

impl Ended {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Lost];

    fn of(result: &Result<CloudAnswer, CloudFailure>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(failure) if failure.class == FailureClass::Lost => Self::Lost,
            Err(_) => Self::Refused,
        }
    }
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = Plain::ALL.len() + Purpose::ALL.len() * Ended::ALL.len();

    /// Every kind, in the order of [`Kind::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let answers = Purpose::ALL.into_iter().flat_map(|purpose| Ended::ALL.map(|ended| Self::Ec2(purpose, ended)));
        Plain::ALL.into_iter().map(Self::Plain).chain(answers)
    }

    /// Its place among all of them.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Plain(plain) => plain as usize,
            Self::Ec2(purpose, ended) => Plain::ALL.len() + purpose as usize * Ended::ALL.len() + ended as usize,
        }
    }

    /// What an input is to this agent.
    pub(crate) fn of(input: &Input, agent: &Agent) -> Self {
        Self::Plain(match input {
            Input::CloudDone { op, result } => match agent.asked(*op) {
                Some(purpose) => return Self::Ec2(purpose, Ended::of(result)),
                None => Plain::LateAnswer,
            },
            Input::Add { .. } => Plain::Add,
            Input::AddAbandoned { .. } => Plain::AddAbandoned,
            Input::Del { .. } | Input::Undo { .. } => Plain::Del,
            Input::Status { .. } | Input::Find { .. } | Input::Collect { .. } | Input::Reported { .. } => {
                Plain::Inquiry
            }
            Input::HostObserved { result: Ok(_), .. } => Plain::HostObserved,
            Input::HostObserved { result: Err(_), .. } => Plain::HostUnseen,
            Input::HostApplied { result: Ok(()), .. } | Input::LinksRemoved { result: Ok(()), .. } => {
                Plain::HostApplied
            }
            Input::HostApplied { result: Err(_), .. } | Input::LinksRemoved { result: Err(_), .. } => {
                Plain::HostUnchanged
            }
            Input::HostChanged => Plain::HostChanged,
            Input::CheckpointWritten { result: Ok(()), .. } => Plain::CheckpointWritten,
            Input::CheckpointWritten { result: Err(_), .. } => Plain::CheckpointFailed,
            Input::VpcCidrs(_) => Plain::VpcCidrs,
            Input::MetadataRead { result: Ok(_), .. } => Plain::MetadataRead,
            Input::MetadataRead { result: Err(_), .. } => Plain::MetadataUnread,
            Input::Cluster(_) => Plain::Cluster,
            Input::Settings(_) => Plain::Settings,
            Input::FlowsFlushed { .. } => Plain::FlowsFlushed,
            Input::Terminate => Plain::Terminate,
            Input::Tick => Plain::Tick,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(plain) => f.write_str(plain.name()),
            Self::Ec2(purpose, ended) => write!(f, "{purpose}-{ended}"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Lost => "lost",
        })
    }
}
