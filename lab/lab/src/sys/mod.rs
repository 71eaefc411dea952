//! What the lab asks of the system: namespaces, mounts, descriptors passed between processes.

pub mod fds;
pub mod init;
pub mod mounts;
pub mod process;
pub mod root;
pub mod spaces;
pub mod userns;
