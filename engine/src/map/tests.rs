//! The map against a model that knows each block by itself, and the promises that the model cannot see.

mod merging;
mod model;
mod plain_tree;
mod sharing;
mod store;
mod walk;
