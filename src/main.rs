//! The `asterism` command.
fn main() {}
