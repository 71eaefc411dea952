//! EC2 as the node daemon and the lab speak it.

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod credentials;
#[cfg(feature = "client")]
mod endpoint;
mod error;
mod pages;
#[cfg(feature = "client")]
mod quota;
mod retry;
pub mod shapes;
pub mod signature;

pub use aws_credential_types::Credentials;
pub use aws_credential_types::provider::SharedCredentialsProvider;
#[cfg(feature = "client")]
pub use client::{Builder, CallRecord, Client, ClientError, Clock, Jitter, Observer};
#[cfg(feature = "client")]
pub use credentials::{CredentialsError, default_chain};
#[cfg(feature = "client")]
pub use endpoint::{EndpointError, endpoint};
pub(crate) use error::resource;
pub use error::{Advice, Ec2Error, ErrorClass, Outcome, Shortage};
pub use pages::{Page, Paged, Pages};
pub use retry::again_after;
