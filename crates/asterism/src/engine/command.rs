//! What the query host tells all hosts of a group to do. Each command is obeyed by all of them
//! before the next one begins; each host answers with an [`Outcome`].

use super::phase1::Progress;
use crate::attention::Sparsity;
use crate::cancel::Cancel;
use crate::plan::{Plan, Span};
use crate::press::RepeatPrompt;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Names a context within a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ContextId(pub(super) u64);

/// Names a question within a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct QuestionId(pub(super) u64);

/// The rows of one sequence in a forward pass over encoded contexts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) context: ContextId,
    pub(super) at: At,
    /// The question that [hides](Command::Hide) keys of the context from them.
    pub(super) hides: Option<QuestionId>,
}

/// Where rows stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum At {
    Span(Span),
    /// In rising order.
    Listed(Arc<[u32]>),
}

impl At {
    /// How many rows there are, and the position of the first.
    pub(super) fn tokens_and_first(&self) -> (usize, usize) {
        match self {
            Self::Span(span) => (span.len, span.start),
            Self::Listed(positions) => {
                (positions.len(), positions.first().map_or(0, |first| *first as usize))
            }
        }
    }
}

/// What a forward pass over encoded contexts is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// Questions and answers.
    Answer,
    /// A question that notes how much it looks at each token of its context, in all layers together
    /// or in each.
    Weigh { question: QuestionId, by_layer: bool },
    /// Tokens of a context, computed anew for a question.
    Revisit,
    /// Tokens of a context in its first layers: the host `owner`, which has their values, notes for
    /// the question how much these change.
    Compare { question: QuestionId, owner: usize },
}

/// Whether a step is recorded, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Replay {
    /// It is run.
    Never,
    /// It is recorded, to be replayed.
    Later,
    /// The one that was recorded last is replayed, for these tokens.
    Again,
}

/// A piece of work that all hosts do together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Command {
    /// Prepare to encode a context: find the blocks that are there already.
    Open {
        id: ContextId,
        plan: Arc<Plan>,
        /// `[plan.tokens]`
        tokens: Arc<[u32]>,
        /// Tokens of question and answer that the query host must have memory for beside it.
        room: usize,
        /// The folder that it was saved in; it is encoded if there is none.
        from: Option<PathBuf>,
        /// What asks for blocks to be repeated, if that is what their keys are scored by.
        prompt: Option<Arc<RepeatPrompt>>,
        /// Of a process that does not lead, one of its own: raised when the command is given up.
        #[serde(skip)]
        cancel: Cancel,
    },
    /// Run the next layer of the host's current pass over the context.
    Encode { id: ContextId, anchor: AnchorNews },
    /// Take part in layers of a forward pass of the query host over encoded contexts.
    Step { sequences: Arc<[Rows]>, layers: Range<usize>, purpose: Purpose },
    /// Run a token of each of these sequences, as the query host does: all layers.
    Answer {
        sequences: Arc<[Rows]>,
        /// `[sequences]`
        tokens: Arc<[u32]>,
        replay: Replay,
        /// Each with its slices of the weights.
        sliced: bool,
    },
    /// Pass a message of `len` numbers on, from each host to the next.
    Pass { len: usize },
    /// Say how much a question [looked at](Purpose::Weigh) each token of its context, or else how
    /// much its values [change](Purpose::Compare).
    Weights(QuestionId),
    /// From now on hide the keys at these positions, in rising order, from rows of a question.
    Hide { question: QuestionId, context: ContextId, positions: Arc<[u32]> },
    /// Let go of what is held for a question.
    Release(QuestionId),
    /// Write the next layer of the keys of a context into this folder, or the first.
    Save { context: ContextId, folder: PathBuf, first: bool },
    /// Give up writing a context.
    EndSave(ContextId),
    /// Keep a context whose encoding is finished on all hosts.
    Keep(ContextId),
    /// Let go of a context, whether encoded or half-way.
    Forget(ContextId),
}

/// What becomes of the anchor's keys while blocks are encoded behind them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct AnchorNews {
    /// Hosts that get them: the first from the first host, each other from the one before it.
    pub(super) to: Arc<[usize]>,
    /// Messages, of keys and values of one layer each, that go down this chain during this command:
    /// none outlives the command, which may be the context's last.
    pub(super) comes: usize,
    /// Tokens of the anchor in each of them.
    pub(super) tokens: usize,
    /// All were sent before: who waited for them can begin.
    pub(super) sent: bool,
}

/// What a host did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Bytes it sent to other hosts.
    pub(super) sent: u64,
    /// Work of phase 1 that is really done by now.
    pub(super) progress: Vec<Progress>,
    /// After [`Command::Weights`], `[1 or layers, tokens of the context that the host holds]`, last
    /// of them those whose keys were computed anew.
    pub(super) weights: Vec<f32>,
    /// After [`Command::Open`] and [`Command::Encode`].
    pub(super) encoding: Option<EncodingState>,
    /// After [`Command::Save`]: whether there are layers left.
    pub(super) save_left: bool,
}

/// How far a host has come with a context.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct EncodingState {
    /// Nothing is left to do.
    pub(super) finished: bool,
    /// It waits for the anchor's keys, or would.
    pub(super) needs_anchor: bool,
    /// Messages with keys of the anchor that it sends during its next slice.
    pub(super) anchor_comes: usize,
    /// Tokens of the anchor in each of them.
    pub(super) anchor_tokens: usize,
    /// It has sent the anchor's keys, in all layers.
    pub(super) anchor_sent: bool,
    /// Bytes of the keys and values of all its blocks, once finished.
    pub(super) kv_bytes: u64,
    /// The blocks it found instead of encoding them: indices among its own.
    pub(super) reused: Vec<usize>,
    /// The others are read from disk.
    pub(super) is_loaded: bool,
    /// What its blocks leave out, if they do.
    pub(super) sparsity: Option<Sparsity>,
}
