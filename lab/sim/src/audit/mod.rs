//! What is wrong in a world: promises held against disk, cloud and host, and answers against what was true.
//!
//! ```text
//!   an answer, a checkpoint, ENIs or host changed, a pod wired --> what that alone can break (promise, reach, waits, refusals)
//!   every [`WHOLE_EVERY`] steps, and at both ends of the calm --> everything (whole)
//!   in the calm ---------------------------------------------> what is left over, who is not served, what it cost (leaks, calm, budget)
//! ```
//!
//! Compared are EC2, the host, the disk and what callers were told; the agent's own books are audited besides, and never believed.
//! Nobody's fault is not a fault: what somebody else took, rules somebody removed until the daemon had the time to set them again,
//! what a lost checkpoint made it forget. Each such excuse stands where it is made, with its reason.

mod budget;
mod calm;
mod fault;
mod leaks;
mod promise;
mod reach;
mod record;
mod refusals;
mod waits;
mod whole;

pub use fault::Fault;
pub(crate) use leaks::made_for;
pub use leaks::own_enis;
pub(crate) use promise::{Changed, Ended, Owner};
pub(crate) use reach::Touched;
pub(crate) use record::Record;
pub(crate) use waits::Waits;
pub use whole::WHOLE_EVERY;
