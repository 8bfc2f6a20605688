//! asterism reads very long texts with **Star Attention**
//! ([arXiv 2411.17116](https://arxiv.org/abs/2411.17116)) and answers questions about them.
//!
//! # The modules, as a request meets them
//!
//! [`text`] turns documents and questions into tokens; [`plan`] says which host encodes which
//! tokens; [`engine`] runs both phases over a [`model`] whose [`attention`] is a strategy, keeps
//! the keys in a [`cache`] per host and lets hosts talk through a [`comm`]; [`tensor`] computes.

#![forbid(unsafe_code)]

pub mod attention;
pub mod cache;
pub mod cancel;
pub mod comm;
pub mod engine;
pub mod model;
pub mod plan;
pub mod text;

/// Processors and the operations of a transformer on them.
pub use asterism_tensor as tensor;
