//! A VPC in EC2 as a state machine: no clock, no I/O, no randomness of its own.
