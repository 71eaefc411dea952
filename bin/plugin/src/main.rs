//! The CNI plugin: wires one pod.
fn main() {}
