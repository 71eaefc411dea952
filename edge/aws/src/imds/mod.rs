//! The instance metadata service, version 2.
//!
//! Every read carries a session token, which a PUT gives and which is renewed before it expires. Version 1, without
//! sessions, is used only where IMDS answers the PUT with 403, 404 or 405, that is where there are no sessions at all, and
//! never with `AWS_EC2_METADATA_V1_DISABLED`; the [`Observer`] hears of it. A PUT that times out does **not** lead to
//! version 1: that is what a hop limit too low for a container looks like, and it should be seen.
//!
//! An instance with many ENIs has hundreds of values; they are read concurrently, a bounded number at a time.

#[cfg(feature = "client")]
mod client;
mod error;
mod node;
mod reading;
#[cfg(feature = "client")]
mod values;
mod walk;

#[cfg(feature = "client")]
pub use client::{Client, Observer, ReadRecord};
pub use error::{ImdsError, ImdsFailure};
pub use node::{IdentityDocument, NodeMetadata};
pub use reading::{Known, Reading};
pub use walk::{EniMetadata, SickEni, Walk};
