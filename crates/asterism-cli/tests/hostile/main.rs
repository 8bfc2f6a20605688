//! Hostile and careless input, by class: nothing is lost, nothing hangs, nothing is believed that
//! is not so.

#[path = "../common/binary.rs"]
#[allow(dead_code)]
mod binary;

mod batch;
