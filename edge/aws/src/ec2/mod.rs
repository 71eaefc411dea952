//! EC2 as the node daemon and the lab speak it.

mod client;
mod credentials;
mod endpoint;
mod error;
mod pages;
mod retry;
pub mod shapes;
pub mod signature;

pub use aws_credential_types::Credentials;
pub use aws_credential_types::provider::SharedCredentialsProvider;
pub use client::{Builder, CallRecord, Client, ClientError, Clock, Jitter, Observer};
pub use credentials::{CredentialsError, default_chain};
pub use endpoint::{EndpointError, endpoint};
pub(crate) use error::resource;
pub use error::{Advice, Ec2Error, ErrorClass, Outcome, Shortage};
pub use pages::{Page, Paged, Pages};
pub use retry::again_after;
