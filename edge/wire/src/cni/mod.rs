//! What a container runtime and a plugin say to each other: environment and standard input on the way in, a result or an error on
//! standard output on the way out. CNI specification 0.1.0 to 1.1.0.
//!
//! ```text
//!   CNI_* ----> Environment::read --+--> ADD, DEL ...
//!   CNI_ARGS -> PodArgs::parse -----+
//!   stdin ----> NetConf::parse -----+            CniResult::to_json ---> stdout, exit 0
//!                                                CniError::to_json ----> stdout, exit 1
//! ```

mod args;
mod attachment;
mod config;
mod egress;
mod env;
mod error;
mod input;
mod log;
mod output;
mod program;
mod result;
mod valid;
mod version;

pub use args::PodArgs;
pub use attachment::{Attachment, Attachments, Wired};
pub use config::{LogLevel, NetConf};
pub use egress::EgressConf;
pub use env::{Command, Environment, Invocation, is_identifier};
pub use error::{CniError, ErrorCode};
pub use input::read_input;
pub use log::PluginLog;
pub use output::check_output;
pub use program::{Failure, run_program};
pub use result::{CniResult, Dns, Interface, IpConfig, ResultError, Route};
pub use valid::ValidAttachment;
pub use version::{UnknownVersion, Version};
