//! End-to-end tests: real binaries, real kernel, other people's programs.
