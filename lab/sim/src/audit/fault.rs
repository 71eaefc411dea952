//! What can be wrong in a world.

use std::net::Ipv4Addr;

use vpc_agent::{Outcome, Refusal};
use vpc_hostnet::PaperRefusal;
use vpc_model::{EniId, Millis, SandboxKey, Time};

use crate::settled::Unsettled;
use crate::world::NodeAt;

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The agent's own books are broken.
    #[error("{node:?}: {fault}")]
    Agent {
        /// Whose.
        node: NodeAt,
        /// What.
        fault: vpc_agent::Fault,
    },
    /// An address was promised that the disk does not record.
    #[error("{node:?}: {address} was promised to {key} before it was on disk")]
    NotOnDisk {
        /// Where.
        node: NodeAt,
        /// To whom.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// An address was promised twice.
    #[error("{address} was promised to {second} while {first} has it")]
    TwoOwners {
        /// Which.
        address: Ipv4Addr,
        /// Who has it.
        first: SandboxKey,
        /// Who was promised it too.
        second: SandboxKey,
    },
    /// An address was promised again too soon.
    #[error("{address} was promised to {key} after a rest of {rested}")]
    NotRested {
        /// Which.
        address: Ipv4Addr,
        /// To whom.
        key: SandboxKey,
        /// How long nobody had had it.
        rested: Millis,
    },
    /// An address was given back to EC2 too soon: another node's pod may have it while packets for the last one are under way.
    #[error("{node:?}: {address} was given back after a rest of {rested}")]
    GivenBackResting {
        /// Whose.
        node: NodeAt,
        /// Which.
        address: Ipv4Addr,
        /// How long nobody had had it.
        rested: Millis,
    },
    /// An address was promised that is no secondary address of an ENI the guest has at that position.
    #[error("{node:?}: {address} was promised to {key}, and no device of the node has it there")]
    NotHere {
        /// Where.
        node: NodeAt,
        /// To whom.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// A sandbox that has an address was given another.
    #[error("{node:?}: {key} has {first} and was given {second} too")]
    SecondAddress {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// What it has.
        first: Ipv4Addr,
        /// What it was given.
        second: Ipv4Addr,
    },
    /// A GC has ended the lease of a sandbox that it was told is valid.
    #[error("{node:?}: a GC has ended the lease of {address} for {key}, which is valid")]
    Collected {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// A CHECK of a pod that lives was told another address than it has, or none.
    #[error("{node:?}: {key} has {has}, and CHECK was told {told:?}")]
    Misremembered {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// What it has.
        has: Ipv4Addr,
        /// What CHECK was told.
        told: Option<Ipv4Addr>,
    },
    /// A live pod's address has left its node.
    #[error("{node:?}: {address} of {key}, which lives, was taken off the node")]
    Taken {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// A running pod is not reached, or its packets leave by the wrong link.
    #[error("{node:?}: {key} with {address} is cut off: {why}")]
    CutOff {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
        /// How.
        why: String,
    },
    /// Something is left over although everything is quiet.
    #[error("{node:?}: left over: {what}")]
    Leaked {
        /// Where.
        node: NodeAt,
        /// What.
        what: String,
    },
    /// The node is quiet and not as it should be.
    #[error("{node:?}: {what}")]
    Unsettled {
        /// Where.
        node: NodeAt,
        /// What.
        what: Unsettled,
    },
    /// The paper host refused what its kernel would refuse.
    #[error("{node:?}: {refusal}")]
    Host {
        /// Where.
        node: NodeAt,
        /// What.
        refusal: PaperRefusal,
    },
    /// A caller got an answer to another question.
    #[error("{node:?}: answered {outcome:?} to another question")]
    OddAnswer {
        /// Where.
        node: NodeAt,
        /// What.
        outcome: Outcome,
    },
    /// The runtime was told twice in one life.
    #[error("{node:?} was ready twice")]
    ReadyTwice {
        /// Where.
        node: NodeAt,
    },
    /// Nothing happens any more, and something is changed in EC2 all the same.
    #[error("{node:?}: {action} although everything has been quiet for long")]
    NotSteady {
        /// Where.
        node: NodeAt,
        /// What.
        action: &'static str,
    },
    /// The world does not come to rest.
    #[error("the world does not come to rest at {at:?}")]
    Stuck {
        /// When.
        at: Time,
    },
    /// A promise that holds is no longer on disk.
    #[error("{node:?}: {address} of {key}, which lives, is no longer on disk")]
    Forgotten {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// An address of a live pod is not, in EC2, on the node that promised it.
    #[error("{node:?}: {address} of {key}, which lives, is not the node's in EC2")]
    NotInEc2 {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// A caller has waited longer than any may.
    #[error("{node:?}: {what} of {key} was asked {since:?} and is not answered")]
    Waits {
        /// Where.
        node: NodeAt,
        /// `ADD` or `DEL`.
        what: &'static str,
        /// Whose.
        key: SandboxKey,
        /// Since when.
        since: Time,
    },
    /// A refusal names a cause that is not true.
    #[error("{node:?}: {key} was refused: \"{refusal}\": {why} ({refusal:?})")]
    FalseCause {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// What it was told.
        refusal: Box<Refusal>,
        /// What is true.
        why: String,
    },
    /// A pod has no address although all has been well for long and nothing stands in the way.
    #[error("{node:?}: pod {pod} is not served: {why}")]
    Unserved {
        /// Where.
        node: NodeAt,
        /// Which.
        pod: String,
        /// How it stands with it.
        why: String,
    },
    /// More was asked for although EC2 may have given it already: the answer was lost, and EC2 was not asked what is true.
    #[error("{node:?}: more was asked for {eni} before EC2 had said what came of a call whose answer was lost")]
    AskedTwice {
        /// Where.
        node: NodeAt,
        /// For which.
        eni: EniId,
    },
    /// EC2 may have made an ENI that holds addresses of the subnet and that nobody will attach: the answer was lost, and the same was
    /// not asked again.
    #[error(
        "{node:?}: EC2 may have made an ENI under {token}: the answer was lost {since:?}, and nobody has asked again"
    )]
    Abandoned {
        /// Where.
        node: NodeAt,
        /// The token under which it was asked for.
        token: String,
        /// When the answer was lost.
        since: Time,
    },
    /// An ENI was thrown away although EC2 may have attached it: the answer was lost, and EC2 was not asked what is true.
    #[error("{node:?}: {eni} was thrown away before EC2 had said whether it attached it; the answer was lost")]
    ThrownAway {
        /// Where.
        node: NodeAt,
        /// Which.
        eni: EniId,
    },
    /// More calls to EC2 than what happened asks for.
    #[error("{node:?}: {calls} calls to EC2, where what happened asks for {budget} at most: {why}")]
    OverBudget {
        /// Where.
        node: NodeAt,
        /// How many there were.
        calls: u64,
        /// How many there may be.
        budget: u64,
        /// What happened.
        why: String,
    },
}
