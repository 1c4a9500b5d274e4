//! Ownership against a model that recomputes everything after every step.

mod model;
mod toy;
