//! What the node holds and what it should hold: the address pool and its planner.
