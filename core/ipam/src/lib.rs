//! What the node holds and what it should hold: the address pool and its planner.
//!
//! ```text
//!   ADD --take--> Pool <--adopt, admit-- answers of EC2        Pool + Target + Demand --plan--> [Action]
//!   DEL --release-> (rests for the cool-down)
//! ```
//!
//! [`Pool`] keeps the books; [`plan`] decides what to fetch or give back. Neither asks for the time or touches anything.

mod plan;
mod pool;
mod target;

pub use plan::{Action, Demand, Pending, Plan, plan};
pub use pool::{
    Allocation, EniFacts, EniRole, EniUse, Held, Pool, PoolEni, PoolError, Released, Retired, SlotState, Stats, Taken,
    Use, Violation,
};
pub use target::{Target, Unit, WarmTarget};
