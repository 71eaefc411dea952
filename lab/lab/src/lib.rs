//! A VPC on one machine: fabric, nodes, kubelet, command line.
//!
//! ```text
//!   topology   what is built (TOML)
//!   fabric     the VPC's network in the kernel; world: the internet
//!   dns        the VPC's resolver
//!   supervisor PID 1 of a lab: cloud (lab-cloud, lab-serve), nodes, the door
//!   fault      what can be made to go wrong, and scenario files
//!   kubelet    sandboxes and plugin calls
//!   cluster    the Kubernetes API (lab-kube) in the lab
//!   control    what may be asked of a running lab;  Lab: how a program asks it
//!   capture    packets, taken apart
//! ```
#![cfg(target_os = "linux")]

pub mod capture;
pub mod cli;
pub mod cluster;
pub mod control;
pub mod demo;
pub mod dns;
pub mod fabric;
pub mod fault;
pub mod kubelet;
pub mod lab;
pub mod place;
pub mod supervisor;
pub mod sys;
pub mod tools;
pub mod topology;

pub use lab::{Lab, LabError, Output, StartOptions};
