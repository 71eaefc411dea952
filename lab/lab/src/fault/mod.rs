//! What can be made to go wrong.

mod seat;

pub use seat::{ApiSeat, ApiServer};
