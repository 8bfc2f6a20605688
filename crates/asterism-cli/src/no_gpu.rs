//! What stands in for `gpu.rs` in a build without the feature `cuda`.

use super::args::common::ModelArgs;
use super::machine::Fact;
use asterism::model::ModelConfig;
use asterism::plan::Plan;
use serde_json::Value;

/// That there are none.
pub(crate) fn facts() -> Vec<Fact> {
    vec![("gpu", "none: this build has no support for them (feature `cuda`)".to_owned())]
}

/// Nothing to say.
pub(crate) fn memory(_: &ModelConfig, _: &ModelArgs, _: &Plan) -> Option<String> {
    None
}

/// Nothing to add.
pub(crate) fn add_memory(_: &mut Value, _: &ModelConfig, _: &ModelArgs, _: &Plan) {}
