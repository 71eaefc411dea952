//! What the node holds and what it should hold: the address pool and its planner.
//!
//! ```text
//!   ADD --take--> Pool <--adopt, admit-- answers of EC2        Pool + Target + Demand --plan--> [Action]
//!   DEL --release-> (rests for the cool-down)
//! ```
//!
//! [`Pool`] keeps the books; [`plan`] decides what to fetch or give back. Neither asks for the time or touches anything.

mod audit;
#[cfg(feature = "deliberate-bugs")]
pub mod bugs;
mod careless;
mod count;
mod eni;
mod lease;
mod plan;
mod pool;
mod stats;
mod target;

pub use audit::Violation;
pub use count::Count;
pub use eni::{EniFacts, EniRole, EniUse, PoolEni, Retired, SlotState};
pub use lease::{Allocation, Held, Released, Taken, Use};
pub use plan::{Action, Demand, Pending, Plan, SINGLES_AHEAD, plan};
pub use pool::{Changes, Pool, PoolError, Position};
pub use stats::Stats;
pub use target::{Target, Unit, WarmTarget};
