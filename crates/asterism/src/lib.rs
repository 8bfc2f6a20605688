//! asterism reads very long texts, 16K to 1M tokens, with **Star Attention**
//! ([arXiv 2411.17116](https://arxiv.org/abs/2411.17116)) and answers questions about them, on CPUs
//! and NVIDIA GPUs, from checkpoints in the layout of Hugging Face. Dense and ring attention, which
//! are exact, are there to compare with.
//!
//! A text is encoded once, by a [plan](plan::PlanSpec), into a [`Context`](engine::Context). Any
//! number of questions may then be asked of it, also at the same time.
//!
//! ```
//! # #[cfg(feature = "nano")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use asterism::cancel::Cancel;
//! use asterism::engine::{Context, Engine, EngineOptions, Generation, TextOptions};
//! use asterism::model::{FetchOptions, ModelSource};
//! use asterism::plan::PlanSpec;
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! // The model in the binary; `"org/name".parse()?` is one of the Hub, a path a folder.
//! let files = ModelSource::Nano.resolve(&FetchOptions::default())?;
//! let engine = Arc::new(Engine::load(files, &EngineOptions::default())?);
//!
//! let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(30);
//! let document = format!("{prose}The access code for the Lisbon vault is 48213. {prose}");
//! let question = "What is the access code for the Lisbon vault?";
//! let prompt = engine.frame(None)?.prompt(engine.tokenizer(), &document, question)?;
//!
//! // Blocks of 512 tokens behind an anchor of 128, on two hosts; room for question and answer.
//! let plan = PlanSpec::star(512).anchor(128).hosts(2);
//! let settings = Generation { max_tokens: 24, ..Generation::default() };
//! let room = prompt.query.len() + settings.max_tokens;
//! let cancel = Cancel::new(); // raise it from another thread to stop
//! let context = Context::encode(engine, prompt.context, plan, room, &|_| (), &cancel)?;
//!
//! let mut show = |piece: &str| {
//!     print!("{piece}");
//!     ControlFlow::Continue(()) // or `Break`, to end the answer here
//! };
//! let options = TextOptions::default();
//! let answer = context.answer(&prompt.query, &settings, &options, &mut show, &cancel)?;
//! assert!(answer.text.contains("48213"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "nano"))]
//! # fn main() {}
//! ```
//!
//! # Modules
//!
//! * [`engine`]: a loaded model, contexts, answers; its
//!   [`EngineError`](engine::EngineError) has a stable [code](engine::EngineError::code) for every
//!   kind of failure
//! * [`plan`]: methods and their settings, which host encodes which tokens, and what that costs
//! * [`model`]: where a model's files come from, and what its configuration says
//! * [`text`]: tokenizer, chat template, prompts, incremental decoding, stop strings
//! * [`cancel`]: the flag that stops work
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
pub mod engine;
pub mod files;
pub mod model;
pub mod plan;
pub mod text;

/// Processors and the operations of a transformer on them.
pub use asterism_tensor as tensor;
