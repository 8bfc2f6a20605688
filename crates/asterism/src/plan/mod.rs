//! Who computes what: pure functions from (method, context length, block, anchor, hosts) to the
//! positions each host encodes, and what that costs. No tensors here.

mod anchor;
mod blocks;
mod cost;

pub use anchor::{AnchorContent, AnchorPlace, AnchorPolicy};
pub use blocks::{AnchorKv, MIN_BLOCK, Method, Plan, PlanError, PlanSpec, Span};
pub use cost::{Cost, HostCost, ModelSize};
