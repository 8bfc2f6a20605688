//! What can go wrong between a question and its answer.

use crate::attention::AttentionError;
use crate::comm::CommError;
use crate::model::{ForwardError, LoadError, ModelError};
use crate::plan::PlanError;
use crate::saved::SavedError;
use crate::tensor::SamplingError;
use crate::tensor::TensorError;
use crate::text::TextError;
use crate::world::WorldError;

/// Why the engine could not load, encode or answer. [`EngineError::code`] gives each a name for
/// programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The checkpoint.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer or the template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Blocks, anchor and hosts.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The compute backend.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Sampling settings.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A context on disk.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// Messages between hosts.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Context, question and answer need more positions than the model has.
    #[error(
        "{} of context + {} of question + {} of answer are more than the {max_positions} positions \
         of the model: shorten the context, or allow fewer tokens of answer",
        tokens(*context), tokens(*query), tokens(*answer)
    )]
    TooLong {
        /// Tokens of the context.
        context: usize,
        /// Tokens of the question.
        query: usize,
        /// Tokens the answer may have.
        answer: usize,
        /// Positions of the model.
        max_positions: usize,
    },
    /// The keys and activations of a context do not fit the processor's memory.
    #[error(
        "a context of {tokens} tokens needs {} MiB of {} memory, and {} MiB are free: {fits} tokens \
         would fit; shorten the context, take smaller blocks, {}",
        needed >> 20,
        if *is_gpu { "GPU" } else { "the machine's" },
        free >> 20,
        if *is_gpu { "cache keys in fp8, or compute on the CPU" }
        else { "cache keys in int8, use fewer hosts, or end other programs" }
    )]
    NoMemory {
        /// Tokens of the context.
        tokens: usize,
        /// Bytes it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Tokens whose keys and activations fit.
        fits: usize,
        /// Whether it is a GPU's memory.
        is_gpu: bool,
    },
    /// A question without a token.
    #[error("the question is empty")]
    EmptyQuery,
    /// The tokenizer made a token that the model has no embedding for.
    #[error(
        "token {token} is outside the model's vocabulary of {vocab}: tokenizer and model do not match"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The model computed NaN or infinity: no text may be made of that.
    #[error(
        "the model's logits are not finite at position {position}: the checkpoint is damaged, or its \
         weights need f32"
    )]
    NotFinite {
        /// Position of the token they were computed from.
        position: usize,
    },
    /// What an answer had to follow cannot be followed.
    #[error("the answer cannot follow its rules: {reason}")]
    Constraint {
        /// What the rules say.
        reason: String,
    },
    /// There is no memory left for a question and its answer.
    #[error(
        "a question and its answer of {tokens} tokens, with {revisited} of its context computed \
         anew, need {} MiB, and {} MiB are left: ask for a shorter answer, revisit less, or let go of \
         contexts and questions that run",
        needed >> 20, free >> 20
    )]
    NoRoom {
        /// Tokens of the question and the most its answer may have.
        tokens: usize,
        /// Tokens of the context that are computed anew for it.
        revisited: usize,
        /// Bytes that their keys need.
        needed: u64,
        /// Bytes that are left.
        free: u64,
    },
    /// A plan for a context of another length.
    #[error("the plan is for {planned} tokens, the context has {given}: plan for these tokens")]
    OtherPlan {
        /// Tokens of the plan.
        planned: usize,
        /// Tokens of the context.
        given: usize,
    },
    /// A question in words to a context of tokens.
    #[error(
        "the context was encoded from tokens, so that nobody knows the prompt around its questions: \
         ask it with tokens, or encode it from text"
    )]
    NoFrame,
    /// An edit of documents to a context of something else.
    #[error(
        "the context was not encoded from documents: edit its text or its tokens, or encode it from \
         documents"
    )]
    NoDocuments,
    /// The rest of an answer whose error is known already.
    #[error("the answer has failed: {message}")]
    AnswerFailed {
        /// The [code](EngineError::code) of that error.
        code: &'static str,
        /// Its message.
        message: String,
    },
    /// A context that the hosts do not hold: a bug.
    #[error("the hosts do not hold this context; please report this")]
    UnknownContext,
    /// A thread could not be started.
    #[error("a thread for a host could not be started: {0}")]
    NoThread(#[source] std::io::Error),
    /// The hosts have ended.
    #[error("the engine has stopped")]
    Stopped,
    /// What went wrong for several requests at once.
    #[error(transparent)]
    Shared(std::sync::Arc<EngineError>),
    /// A host panicked: a bug.
    #[error("host {0} panicked; please report this")]
    HostPanicked(usize),
    /// What went wrong on a host in a process of its own.
    #[error("host {rank}: {message}")]
    OnHost {
        /// The host.
        rank: usize,
        /// The [code](EngineError::code) of its error.
        code: &'static str,
        /// Its message.
        message: String,
    },
    /// The processes that were started together.
    #[error(transparent)]
    World(#[from] WorldError),
    /// Only rank 0 asks; the others serve.
    #[error("rank {rank} does not lead: it serves rank 0, where questions are asked")]
    NotLeading {
        /// This process's rank.
        rank: usize,
    },
    /// A plan for another number of hosts than there are processes.
    #[error(
        "the plan has {hosts} hosts, but {size} processes were started together: plan for {size}"
    )]
    OtherHosts {
        /// Hosts of the plan.
        hosts: usize,
        /// Processes.
        size: usize,
    },
    /// A method that would keep the links between hosts busy for very long.
    #[error(
        "{method} would send {:.0} GB over the link of a host, {seconds:.0} s at the measured {:.1} \
         Gbit/s; zigzag, which is exact too, takes {zigzag_seconds:.1} s: use --method zigzag, or one \
         host",
        1e-9 * *bytes as f64,
        1e-9 * bits_per_second
    )]
    FloodsLink {
        /// The method's name.
        method: &'static str,
        /// Bytes of the busiest link.
        bytes: u64,
        /// Seconds that they take.
        seconds: f64,
        /// Seconds that zigzag's take.
        zigzag_seconds: f64,
        /// Rate of the link.
        bits_per_second: f64,
    },
    /// There is nobody to serve.
    #[error("this process was started alone: there is no rank 0 to serve")]
    NotStartedTogether,
    /// CPUs in processes that were brought together for GPUs.
    #[error(
        "these processes were brought together to compute on a GPU each: compute there, or have MPI \
         start them for the CPU"
    )]
    OnlyGpus,
}

impl EngineError {
    /// The error of text that was read with a flag to stop it.
    pub(super) fn of_cancelled(error: TextError) -> Self {
        match error {
            TextError::Cancelled => Self::Cancelled,
            error => error.into(),
        }
    }

    /// The same error for each of `count` requests that it ended.
    pub(super) fn for_each_of(self, count: usize) -> Vec<Self> {
        match self {
            error if count == 1 => vec![error],
            Self::Cancelled => (0..count).map(|_| Self::Cancelled).collect(),
            error => {
                let error = std::sync::Arc::new(error);
                (0..count).map(|_| Self::Shared(std::sync::Arc::clone(&error))).collect()
            }
        }
    }
}

/// `1 token`, `2 tokens`.
fn tokens(count: usize) -> String {
    format!("{count} token{}", if count == 1 { "" } else { "s" })
}

impl From<AttentionError> for EngineError {
    fn from(error: AttentionError) -> Self {
        match error {
            AttentionError::Comm(error) => Self::Comm(error),
            AttentionError::Tensor(error) => Self::Tensor(error),
            AttentionError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<LoadError> for EngineError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Model(error) => Self::Model(error),
            LoadError::Tensor(error) => Self::Tensor(error),
        }
    }
}

impl From<ForwardError> for EngineError {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::Attention(error) => error.into(),
            ForwardError::UnknownToken { token, vocab } => Self::UnknownToken { token, vocab },
            ForwardError::Tensor(error) => Self::Tensor(error),
        }
    }
}
