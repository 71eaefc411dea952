//! What arrives from outside, made up, and what must hold whatever it is.
//!
//! ```text
//!   container runtime --> cni_stdin, cni_args, prev_result     kernel ------> netlink
//!   daemon ------------> grpc                                   metadata ----> imds
//!   disk --------------> checkpoint                             EC2 ---------> ec2_answer      (to the lab: ec2_request)
//! ```
//!
//! No input may end in a panic, in memory that grows with what the input *says* instead of with its length, or in a reading that
//! does not end. What is taken must survive being written and read again, and what is refused must be refused in a form its reader
//! understands. `cargo xtask fuzz` runs them.

mod cloud;
mod disk;
mod kernel;
mod plugin;
mod wire;

pub use cloud::{ec2_answer, ec2_request, imds};
pub use disk::checkpoint;
pub use kernel::netlink;
pub use plugin::{cni_args, cni_stdin, prev_result};
pub use wire::grpc;

/// Fails on one input, which a fuzzer finds in seconds: shows that whoever runs the targets notices.
pub fn planted(data: &[u8]) {
    assert!(!data.starts_with(b"boo"), "planted: this input must be found and told");
}

/// The first byte, which chooses, and what follows it.
fn choice(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}
