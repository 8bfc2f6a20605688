//! The three benchmarks long-context methods are judged by: RULER, BABILong and InfiniteBench.
//!
//! Its parts generate samples or read the published ones, each
//! split into the context that phase 1 encodes and the query of phase 2; a [`TaskInfo`] says how many
//! tokens to generate and by which [`Metric`] a prediction is scored. Nothing here runs a model.

mod error;
pub mod report;
pub mod run;
mod sample;
pub mod stats;
mod task;

pub use error::EvalError;
pub use sample::{CountTokens, Sample};
pub use task::{Benchmark, Metric, TaskInfo, clean_prediction, cut_at_stop_words, select};
