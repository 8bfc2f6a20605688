#![doc = include_str!("../README.md")]
//!
//! # The modules, as a request meets them
//!
//! [`text`] turns documents and questions into tokens; [`plan`] says which host encodes which
//! tokens; [`engine`] runs both phases over a [`model`] whose [`attention`] is a strategy, keeps the
//! keys in a [`cache`] per host and lets hosts talk through a [`comm`]; [`tensor`] computes.

pub mod attention;
pub mod cache;
pub mod cancel;
pub mod comm;
pub mod engine;
pub mod eval;
pub mod model;
pub mod palette;
pub mod plan;
pub mod tensor;
pub mod text;
mod user_cache;
