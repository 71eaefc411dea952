//! The one state machine of a node: inputs in, effects out.
