//! The node daemon (ipamd): holds the address pool of one node.
fn main() {}
