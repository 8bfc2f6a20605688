//! The narrow waist: a loaded model, contexts encoded once, questions answered from them. Callers
//! see tokens and text, never a tensor.
//!
//! * [`ModelText`]: a model's tokenizer and prompts, without its weights
//! * [`Engine`]: a model ready to compute
//! * [`ContextBuilder`]: how a text is to be encoded
//! * [`Prepared`]: a text that was read and planned, before it is encoded
//! * [`Context`]: a text encoded by a plan; any number of questions may be asked of it at once
//! * [`Saved`]: a context on disk
//! * [`Context::places`]: from its tokens back to the documents that it was made of
//! * [`Ask`]: a question, and how it is to be answered
//! * [`Answer`]: the answer's text as it comes
//! * [`Constraint`]: rules that an answer has to follow
//! * [`AnswerText`]: text, tokens, why it ended, and what it cost
//! * [`Source`]: a block of the context that the question looked at
//!
//! Inside, callers send requests to a *service*, one per group of *hosts*. It runs on a thread of
//! its own, does slice after slice of what its *schedule* says, and has all hosts obey one
//! *command* after the other.

mod across;
mod admission;
mod answer;
mod ask;
mod builder;
mod chat;
mod choice;
mod code;
mod command;
mod compare;
mod compute;
mod constraint;
mod context;
mod decode;
mod device;
mod documents;
mod encode;
mod encoding_queue;
mod error;
mod followers;
mod generate;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(not(feature = "cuda"))]
#[path = "no_gpu.rs"]
mod gpu;
mod group;
mod host;
mod load;
mod loaded;
mod loading;
mod measured;
mod members;
mod memory;
mod model_text;
mod obeyed;
mod options;
mod pace;
mod passes;
mod phase1;
mod prepared;
mod processor;
mod question;
mod question_queue;
mod recorded;
mod remote;
mod replica;
mod replicate;
mod request;
mod revisit;
mod saving;
mod saving_queue;
mod schedule;
mod service;
mod share;
mod sources;
mod step;
mod tokens;

pub use crate::attention::Sparsity;
pub use answer::{Answer, AnswerText, TextOptions};
pub use ask::Ask;
pub use builder::ContextBuilder;
pub use constraint::{Constraint, Follower};
pub use context::{Change, Context, Room};
pub use device::{DeviceChoice, UnknownDevice};
pub use error::EngineError;
pub use generate::{Finish, Generated, Generation, Logprobs, Revisited};
pub use load::Engine;
pub use memory::{MemoryNeed, MemoryUse};
pub use model_text::ModelText;
pub use options::{DecodeWeights, EngineOptions};
pub use phase1::{Origin, Phase1, Progress};
pub use prepared::{Prepared, Saved};
pub use sources::Source;
