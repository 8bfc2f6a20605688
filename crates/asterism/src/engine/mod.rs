//! The narrow waist: a loaded model, contexts encoded once, questions answered from them. Callers
//! see tokens and text, never a tensor.
//!
//! * [`Engine`]: a model ready to compute
//! * [`Session`]: a context encoded by a plan, and the answers drawn from it
//! * [`AnswerText`]: text, tokens, why it ended, and what it cost

mod answer;
mod compute;
mod device;
mod error;
mod generate;
mod hosts;
mod lead;
mod load;
mod memory;
mod prefill;
mod session;

pub use answer::{AnswerText, TextOptions};
pub use device::{DeviceChoice, UnknownDevice};
pub use error::EngineError;
pub use generate::{Finish, Generated, Generation};
pub use load::{Engine, EngineOptions};
pub use memory::MemoryNeed;
pub use prefill::{Phase1, Progress};
pub use session::{RESERVE, Session};
