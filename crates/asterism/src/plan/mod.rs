//! Who computes what: pure functions from (method, context length, block, anchor, hosts) to the
//! positions each host encodes, and what that costs. No tensors here.

mod anchor;
mod blocks;
mod cost;
mod link;
mod method;
mod model_size;
mod pairs;
mod press;
mod revisit;
mod slices;
mod spaced;
mod sparse;
pub mod words;

pub use anchor::{AnchorContent, AnchorPlace, AnchorPolicy};
pub use blocks::{MIN_BLOCK, Plan, PlanError, Span};
pub use cost::{Cost, HostCost};
pub use link::{Link, LinkCost};
pub use method::{AnchorKv, Method, PlanSpec, Star};
pub use model_size::ModelSize;
pub use press::{HeadBudget, Press, PressBy};
pub use revisit::{Revisit, RevisitBy, RevisitCost};
pub use slices::{SlicedToken, Slices};
pub use sparse::{Share, Sparse};
