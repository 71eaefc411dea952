//! What the host's network looks like and should look like: layouts, wiring, the difference.
