//! What other programs read and write. Nothing here decides; it translates and checks.
//!
//! ```text
//!   container runtime --environment, stdin--> cni --result, error--> container runtime
//!   plugin ==unix socket, gRPC==> rpc ==> daemon
//!   daemon <--ipam.json--> checkpoint
//!   plugin --DELs nobody answered--> tombstone --> daemon
//! ```

pub mod checkpoint;
pub mod cni;
pub mod rpc;
pub mod tombstone;
