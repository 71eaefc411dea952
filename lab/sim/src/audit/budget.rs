//! Calls to EC2: no more than what happens asks for.
//!
//! A node that is quiet asks nothing: metadata and books agree. What may be spent, in requests:
//! - a daemon's start: the ENIs, the subnets, what an earlier life left, the type's limits, tags, and what follows from the answers;
//! - a pod that comes or goes: at most an ENI is made, attached and tied for it, or positions of one given back with a question
//!   before; most cost nothing;
//! - a failure: the client tries three times, the agent repeats or asks what is true, and plans anew;
//! - news (settings, the node object, something others changed): each ENI looked at, tagged, moved to the new target;
//! - time: differences that stay are asked about once in an audit period, ever more rarely; a subnet without addresses, or an ENI
//!   that does not detach, is asked for again and again with growing pauses.

use crate::audit::Fault;
use crate::audit::record::Spent;
use crate::world::{NodeAt, World};

const START: u64 = 60;
const POD: u64 = 3;
const FAILURE: u64 = 8;
const NEWS: u64 = 60;
const MINUTE: u64 = 12;

impl Spent {
    fn budget(&self, minutes: u64) -> u64 {
        START * self.lives + POD * self.pods + FAILURE * self.failures + NEWS * self.stirs + MINUTE * minutes
    }
}

impl World {
    /// Nodes that asked more of EC2 than what happened explains.
    #[must_use]
    pub fn overspent(&self) -> Vec<Fault> {
        let minutes = self.now.0 / 60_000;
        let mut found = Vec::new();
        for (index, own) in self.nodes.iter().enumerate() {
            let spent = &own.audit.spent;
            let budget = spent.budget(minutes);
            if spent.calls > budget {
                let why = format!("{minutes} minutes, {spent:?}");
                found.push(Fault::OverBudget { node: NodeAt(index), calls: spent.calls, budget, why });
            }
        }
        found
    }
}
