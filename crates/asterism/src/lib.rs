//! asterism reads very long texts, 16K to 1M tokens, with **Star Attention**
//! ([arXiv 2411.17116](https://arxiv.org/abs/2411.17116)) and answers questions about them, on CPUs
//! and NVIDIA GPUs, from checkpoints in the layout of Hugging Face. Dense and ring attention, which
//! are exact, are there to compare with.
//!
//! A text is encoded once, into a [`Context`](engine::Context). Any number of questions may then be
//! asked of it, also at the same time; each [`Answer`](engine::Answer) is an iterator over pieces
//! of text.
//!
//! ```
//! # #[cfg(feature = "nano")]
//! # fn main() -> Result<(), asterism::engine::EngineError> {
//! use asterism::engine::{Ask, Engine};
//!
//! // The model in the binary. A path is a folder, "org/name" a model of the Hub.
//! let engine = Engine::open("nano")?;
//! let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(30);
//! let text = format!("{prose}The access code for the Lisbon vault is 48213. {prose}");
//!
//! // Blocks of 512 tokens, each behind the first 128.
//! let book = engine.context(&text).star(512).anchor(128).encode()?;
//! for piece in book.ask("What is the access code for the Lisbon vault?")? {
//!     print!("{}", piece?);
//! }
//!
//! let ask = Ask::new("What is the access code for the Lisbon vault?").max_tokens(24);
//! let answer = book.ask(ask)?.finish()?;
//! assert!(answer.text.contains("48213"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "nano"))]
//! # fn main() {}
//! ```
//!
//! * How a text is encoded, by which method and on how many hosts, with progress and cancelling:
//!   [`ContextBuilder`](engine::ContextBuilder).
//! * Temperature, seed, stop strings and the length of an answer: [`Ask`](engine::Ask). Dropping an
//!   [`Answer`](engine::Answer) cancels its question; [`finish`](engine::Answer::finish) returns
//!   its tokens, too, and what they cost.
//! * Many questions in the same steps: [`Context::ask_many`](engine::Context::ask_many).
//! * Where in the text an answer comes from: [`Ask::sources`](engine::Ask::sources).
//! * A text that changes here and there: [`Context::edit`](engine::Context::edit) encodes the
//!   blocks that changed, if [`slack`](engine::ContextBuilder::slack) was left for it.
//! * A context that is there again tomorrow: [`Context::save`](engine::Context::save), and
//!   [`Engine::saved`](engine::Engine::saved).
//! * Threads, precision, GPUs: [`Engine::load`](engine::Engine::load) with
//!   [`EngineOptions`](engine::EngineOptions).
//! * Prompts of your own: [`Context::encode`](engine::Context::encode) by a
//!   [plan](plan::PlanSpec), and [`Context::generate`](engine::Context::generate), work on tokens.
//!
//! The folder `examples` of this crate has a program for each of the first four.
//!
//! # Modules
//!
//! * [`engine`]: a loaded model, contexts, answers; its
//!   [`EngineError`](engine::EngineError) has a stable [code](engine::EngineError::code) for every
//!   kind of failure
//! * [`plan`]: methods and their settings, which host encodes which tokens, and what that costs
//! * [`model`]: where a model's files come from, and what its configuration says
//! * [`text`]: tokenizer, chat template, prompts, incremental decoding, stop strings
//! * [`saved`]: encoded contexts on disk
//! * [`cancel`]: the flag that stops work
//! * [`world`]: processes that were started together, on one machine or many, each of them a host
//! * [`tensor`]: the processors
//!
//! # Features
//!
//! All are on by default. A build without one refuses what is missing with an error that names the
//! feature.
//!
//! * `nano`: the built-in model of 14 million weights, 28 MB
//! * `hub`: models of the Hugging Face Hub, in the cache that other tools share
//! * `cuda`: NVIDIA GPUs; their libraries are looked for at run time, and nothing of them is needed
//!   to build

#![forbid(unsafe_code)]

// Public for what is built around the engine in this repository; they may change at any time.
#[doc(hidden)]
pub mod attention;
#[doc(hidden)]
pub mod cache;
pub mod cancel;
#[doc(hidden)]
pub mod comm;
mod distinct;
pub mod engine;
pub mod files;
pub mod model;
pub mod plan;
#[doc(hidden)]
pub mod press;
pub mod saved;
pub mod text;
pub mod world;

/// Processors and the operations of a transformer on them.
pub use asterism_tensor as tensor;

// The program in the README compiles and runs as it stands there.
#[cfg(all(doctest, feature = "nano"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
