//! A program that does nothing: what a process costs on this machine, whatever it is for. `cargo xtask bench plugin` compiles it as
//! the plugin is compiled.

fn main() {}
