//! `vpc-lab`: a VPC on one machine.

use std::process::ExitCode;

/// For `vpc-lab sim`, which does little but allocate and free small things.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    vpc_lab::cli::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("vpc-lab: the lab is made of Linux namespaces and runs on Linux 5.12 or newer only.");
    eprintln!("On another system, run it in a Linux virtual machine, or in a container started with --privileged.");
    ExitCode::FAILURE
}
