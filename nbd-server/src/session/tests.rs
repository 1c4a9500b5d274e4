//! Tests of sessions over a simulated network.
