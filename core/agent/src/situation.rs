//! Where an agent stands, in one word: for those who look at many of them, or count what was tried in which state.

use std::fmt;

use vpc_model::Time;

use crate::agent::Agent;
use crate::cloud::OpId;
use crate::jobs::Job;

/// What an engineer would say of a node's agent: the first of these that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Situation {
    /// It has been asked to end: it promises nothing new.
    Terminating,
    /// The last checkpoint could not be written: nothing can be promised.
    DiskSick,
    /// The host's network could not be looked at or changed.
    HostSick,
    /// Leases from before the start are there whose sandboxes have not been seen yet.
    Restored,
    /// EC2 may be asked and has not said yet what is on the node.
    Unheard,
    /// The settings forbid to change anything in EC2.
    Bound,
    /// Pods wait, and addresses are on their way.
    Waiting,
    /// Pods wait, and EC2 has refused or asked for patience: it is asked again after a pause.
    Refused,
    /// Pods wait, nothing is on its way, and addresses rest: the next one that has rested serves.
    Resting,
    /// Pods wait, and nothing more can come until a pod ends.
    Full,
    /// No pod waits; the node takes none.
    Cordoned,
    /// No pod waits; addresses or ENIs are being given back.
    GivingBack,
    /// No pod waits; EC2 has refused, and is asked again after a pause.
    Pausing,
    /// No pod waits; addresses or ENIs are on their way.
    Growing,
    /// No pod waits, nothing is under way.
    Quiet,
}

impl Situation {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 15] = [
        Self::Terminating,
        Self::DiskSick,
        Self::HostSick,
        Self::Restored,
        Self::Unheard,
        Self::Bound,
        Self::Waiting,
        Self::Refused,
        Self::Resting,
        Self::Full,
        Self::Cordoned,
        Self::GivingBack,
        Self::Pausing,
        Self::Growing,
        Self::Quiet,
    ];
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Terminating => "terminating",
            Self::DiskSick => "disk-sick",
            Self::HostSick => "host-sick",
            Self::Restored => "restored",
            Self::Unheard => "unheard",
            Self::Bound => "bound",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Resting => "resting",
            Self::Full => "full",
            Self::Cordoned => "cordoned",
            Self::GivingBack => "giving-back",
            Self::Pausing => "pausing",
            Self::Growing => "growing",
            Self::Quiet => "quiet",
        })
    }
}

/// What a call to EC2 is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Making an ENI.
    Create,
    /// Attaching it.
    Attach,
    /// Having it go with the instance.
    Tie,
    /// More addresses or prefixes.
    Assign,
    /// What is true of one ENI.
    Describe,
    /// What is true of all of them.
    DescribeNode,
    /// Giving addresses or prefixes back.
    Unassign,
    /// Detaching an ENI.
    Detach,
    /// Deleting one.
    Delete,
    /// Its security groups.
    SetGroups,
    /// Its tags.
    Tag,
    /// Which subnets there are.
    Subnets,
    /// ENIs that were left behind.
    Find,
    /// What the instance type may have.
    Limits,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Create,
        Self::Attach,
        Self::Tie,
        Self::Assign,
        Self::Describe,
        Self::DescribeNode,
        Self::Unassign,
        Self::Detach,
        Self::Delete,
        Self::SetGroups,
        Self::Tag,
        Self::Subnets,
        Self::Find,
        Self::Limits,
    ];

    fn of(job: &Job) -> Self {
        match job {
            Job::Create(_) => Self::Create,
            Job::Attach(_) => Self::Attach,
            Job::DeleteOnTermination { .. } => Self::Tie,
            Job::Assign { .. } => Self::Assign,
            Job::FindAttachment(_)
            | Job::Refresh(_)
            | Job::CheckSlots(_)
            | Job::SeeUnassigned(_)
            | Job::Verify(_)
            | Job::AwaitDetached(_)
            | Job::LookAtLeaked(_) => Self::Describe,
            Job::DescribeNode => Self::DescribeNode,
            Job::Unassign { .. } => Self::Unassign,
            Job::Detach { .. } => Self::Detach,
            Job::Delete(_) | Job::Discard(_) | Job::DeleteLeaked(_) => Self::Delete,
            Job::SetGroups { .. } => Self::SetGroups,
            Job::Tag { .. } | Job::DateLeaked { .. } => Self::Tag,
            Job::Subnets { .. } => Self::Subnets,
            Job::FindStrays | Job::FindLeaked => Self::Find,
            Job::Limits => Self::Limits,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Attach => "attach",
            Self::Tie => "tie",
            Self::Assign => "assign",
            Self::Describe => "describe",
            Self::DescribeNode => "describe-node",
            Self::Unassign => "unassign",
            Self::Detach => "detach",
            Self::Delete => "delete",
            Self::SetGroups => "set-groups",
            Self::Tag => "tag",
            Self::Subnets => "subnets",
            Self::Find => "find",
            Self::Limits => "limits",
        })
    }
}

impl Agent {
    /// Where it stands now. Costs what looking at a handful of fields costs, so that it can be asked at every step.
    #[must_use]
    pub fn situation(&self, now: Time) -> Situation {
        if self.terminating {
            return Situation::Terminating;
        }
        if self.disk.failure.is_some() {
            return Situation::DiskSick;
        }
        if self.host.error().is_some() {
            return Situation::HostSick;
        }
        if !self.suspects.is_empty() {
            return Situation::Restored;
        }
        if self.config.cloud.may_ask() && !self.recon.heard_ec2() {
            return Situation::Unheard;
        }
        if !self.config.cloud.may_change() {
            return Situation::Bound;
        }
        let pausing =
            || !self.cloud.fetch.may_assign(now) || !self.cloud.fetch.may_create(now) || self.cloud.held_up().is_some();
        if self.waiters.is_empty() {
            return match () {
                () if !self.takes_pods() => Situation::Cordoned,
                () if self.cloud.back.is_under_way() => Situation::GivingBack,
                () if pausing() => Situation::Pausing,
                () if self.cloud.is_fetching() => Situation::Growing,
                () => Situation::Quiet,
            };
        }
        match () {
            () if self.cloud.is_fetching() => Situation::Waiting,
            () if pausing() => Situation::Refused,
            () if self.pool.next_rest_end().is_some() => Situation::Resting,
            () => Situation::Full,
        }
    }

    /// What a call that is under way is for; `None`: nobody waits for its answer any more.
    #[must_use]
    pub fn asked(&self, op: OpId) -> Option<Purpose> {
        self.cloud.job(op).map(Purpose::of)
    }
}
