//! EC2's Query API and the instance metadata service: shapes, clients, errors.
//!
//! A call of the node daemon goes: typed request ([`ec2::shapes`]) -> form -> signature ([`ec2::signature`]) -> HTTP ->
//! XML -> typed answer or [`ec2::Ec2Error`]. The lab serves the same shapes from the other end. What the agent's calls are in these
//! shapes, and the answers in the agent's words, [`hand`] knows.
//!
//! ```no_run
//! use std::error::Error;
//! use vpc_aws::{Ec2Settings, ImdsSettings, ec2, imds};
//!
//! async fn start() -> Result<ec2::Client, Box<dyn Error>> {
//!     let env = |name: &str| std::env::var(name).ok();
//!     let mut fallbacks = Vec::new();
//!     let settings = Ec2Settings::read(&env, &mut fallbacks)?;
//!     let metadata = ImdsSettings::read(&env, &mut fallbacks)?;
//!     for fallback in &fallbacks {
//!         eprintln!("{fallback}");
//!     }
//!     let region = match &settings.region {
//!         Some(region) => region.clone(),
//!         None => imds::Client::new(metadata.clone(), None).region().await?,
//!     };
//!     let credentials = ec2::default_chain(&settings, &metadata, &region).await?;
//!     Ok(ec2::Client::builder(settings, &region, credentials).build()?)
//! }
//! ```

pub mod ec2;
pub mod hand;
#[cfg(feature = "client")]
mod http;
pub mod imds;
#[cfg(feature = "client")]
mod settings;

#[cfg(feature = "client")]
pub use self::http::CaBundleError;
#[cfg(feature = "client")]
pub use settings::{Ec2Settings, Fallback, IMDS_V4, IMDS_V6, ImdsSettings, SettingError};
