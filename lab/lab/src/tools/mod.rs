//! Small programs that nodes and pods lack on a bare machine: ping, a DNS client, a web client, a web server.
//!
//! They run *inside*, as `vpc-lab tool …` started by `exec`, and print one JSON document for whoever started them. So traffic is made
//! by real sockets in the right namespace, on any machine.

mod dns;
mod http;
mod ping;
mod pour;

pub use dns::{DnsOptions, DnsReply, lookup};
pub use http::{HttpOptions, HttpReply, get, serve};
pub use ping::{Echo, EchoAnswer, EchoError, PingOptions, PingReport, ping};
pub use pour::{Poured, pour, sink};
