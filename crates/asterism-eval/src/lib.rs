//! The three benchmarks long-context methods are judged by: RULER, BABILong and InfiniteBench.
//!
//! [`ruler`], [`babilong`] and [`infinitebench`] generate samples or read the published ones, each
//! split into the context that phase 1 encodes and the query of phase 2; a [`TaskInfo`] says how
//! many tokens to generate and by which [`Metric`] a prediction is scored. Only [`run`] runs a
//! model; [`stats`] says how sure its scores are, and [`report`] shows them.

#![forbid(unsafe_code)]

pub mod babilong;
pub mod compare;
mod error;
mod files;
mod frame;
mod haystack;
pub mod infinitebench;
pub mod palette;
mod parquet;
pub mod random;
pub mod report;
pub mod ruler;
pub mod run;
mod sample;
mod sentences;
mod set;
pub mod stats;
mod task;
mod words;

pub use error::EvalError;
pub use frame::ChatFrame;
pub use haystack::Haystack;
pub use parquet::exists;
pub use sample::{CountTokens, Sample};
pub use set::{Reading, SampleSet, read_jsonl, write_jsonl};
pub use task::{Benchmark, Metric, TaskInfo, clean_prediction, cut_at_stop_words, select};
