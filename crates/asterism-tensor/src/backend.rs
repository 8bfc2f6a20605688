//! What a machine must be able to do to run the model: the one interface behind which processors
//! differ. The decoder, the attention strategies and the cache are written against it once.

use super::{
    ElementsView, Grain, HeadShape, KeptKeys, KvBytes, KvPrecision, Part, PartMut, Precision,
    Sampling, Slab, TensorError, TileMask,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Measured upper bounds of a machine. They are rates that real code reaches there, not figures
/// from a data sheet: a share of them says how far a stage is from the best that this program can
/// do on this machine as it is now, other load included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Floating-point operations per second (a multiply-add counts two), by the instructions that
    /// products with weights in the given precision use: the best of several runs.
    pub flops_per_second: f64,
    /// Bytes per second read from memory: the best of several passes.
    pub bytes_per_second: f64,
}

impl Peak {
    /// The larger of each: of several measurements on a shared machine, the ones least disturbed.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            flops_per_second: self.flops_per_second.max(other.flops_per_second),
            bytes_per_second: self.bytes_per_second.max(other.bytes_per_second),
        }
    }
}

/// Buffers of a backend.
pub trait Memory: Send + Sync + 'static {
    /// Number of elements.
    fn len(&self) -> usize;

    /// Bytes they occupy.
    fn bytes(&self) -> usize;

    /// Whether there is no element.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads row `r` of a table as f32: the embedding, straight from a mapped file.
pub type RowReader = Arc<dyn Fn(usize, &mut [f32]) + Send + Sync>;

/// Keys and values of tokens at consecutive positions.
pub struct Segment<'a, B: Backend> {
    /// `[tokens, kv_heads, head_dim]`, or what is `kept` of them, `[rows, head_dim]`
    pub keys: Part<'a, B::Kv>,
    /// As `keys`.
    pub values: Part<'a, B::Kv>,
    /// Number of tokens.
    pub tokens: usize,
    /// Position of the first token.
    pub start: usize,
    /// `[tokens]`: which keys no query sees, whatever its position; none if it is missing.
    pub hidden: Option<&'a B::Flags>,
    /// Which tokens' keys each head has; those of all if it is missing.
    pub kept: Option<&'a B::Kept>,
}

/// How the softmax weights that several rows give to a key become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MassOver {
    /// They are added up.
    Sum,
    /// The largest is taken.
    Max,
}

/// Where the rows of a sequence stand.
pub enum Positions<'a, B: Backend> {
    /// At consecutive positions, from this one on.
    From(usize),
    /// At these, one for each row.
    Listed(&'a B::Listed),
}

impl<B: Backend> Clone for Positions<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Positions<'_, B> {}

/// Some consecutive rows of queries and the keys they see.
pub struct Sequence<'a, B: Backend> {
    /// Which of all tokens of the queries.
    pub rows: Range<usize>,
    /// Where they stand.
    pub positions: Positions<'a, B>,
    /// Keys and values, in any number of segments.
    pub segments: &'a [Segment<'a, B>],
}

/// A token to be chosen.
pub struct Choice<'a, B: Backend> {
    /// `[vocab]`
    pub logits: Part<'a, B::Sums>,
    /// How.
    pub sampling: &'a Sampling,
    /// Which tokens were seen before, needed if these are penalized; the chosen one is added.
    pub seen: Option<&'a mut B::Flags>,
    /// A random number below 2^53; of no account where the likeliest is taken.
    pub uniform: u64,
}

/// What the rows of a forward pass are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Tokens of one text. They take the fastest arithmetic for their number.
    Prefill,
    /// Single tokens of any number of sequences. What comes out for a row does not depend, to the
    /// last bit, on the others or on how many there are, and one row of a [`Pass::Prefill`] comes
    /// out the same; weights are read once for many rows.
    Decode,
}

/// How wide the layers of a model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerWidths {
    /// Elements of a row of the residual stream.
    pub hidden: usize,
    /// Outputs of the gate of an MLP.
    pub intermediate: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Heads of attention.
    pub shape: HeadShape,
}

/// What happens to queries and keys between projection and attention.
pub struct Rotation<'a, B: Backend> {
    /// Weights of the norms of each head of q and of k, `[head_dim]` (Qwen3), and their epsilon.
    pub norms: Option<(&'a B::Vector, &'a B::Vector, f32)>,
    /// `[tokens, head_dim]`: cosines of the angles of a token's pairs, then their sines
    pub angles: Part<'a, B::Sums>,
}

/// Queries, keys and values of some tokens, apart.
pub struct SplitQkv<'a, B: Backend> {
    /// `[tokens, heads, head_dim]`
    pub q: PartMut<'a, B::Rows>,
    /// `[tokens, kv_heads, head_dim]`
    pub k: PartMut<'a, B::Rows>,
    /// `[tokens, kv_heads, head_dim]`
    pub v: PartMut<'a, B::Rows>,
}

/// A processor with its memory and the operations of a transformer on it. All in-process hosts
/// share one; its operations may be called from any thread. They may return before the work is
/// done, and then run in the order they were called in.
pub trait Backend: Send + Sync + Sized + 'static {
    /// The precision of [`Backend::Rows`], in which this backend computes.
    const ROWS: Precision;

    /// Bytes of weights that it reads in about the time of a small exchange between hosts with a
    /// processor of this kind each: what dividing a matrix among them must save.
    const EXCHANGE_BYTES: u64;

    /// Queries, keys, values and outputs of attention, in precision [`Backend::ROWS`].
    type Rows: Memory + Default;
    /// f32: the residual stream, log-sum-exps, logits, angles.
    type Sums: Memory + Default;
    /// Cached keys or values; grows.
    type Kv: Memory;
    /// What goes into a linear layer.
    type Activations: Send;
    /// Tokens and their positions.
    type Ids: Send + Default;
    /// A yes or no for each of some things: tokens of a vocabulary, keys of a segment.
    type Flags: Send + Sync;
    /// Positions in ascending order.
    type Listed: Send + Sync;
    /// Which keys each head has.
    type Kept: AsRef<KeptKeys> + Send + Sync;
    /// A step that can be run again: see [`Backend::record`].
    type Recording: Send;
    /// Weights of a linear layer.
    type Matrix: Memory;
    /// A moment in the order of its work.
    type Mark: Send;
    /// Weights of a norm, or biases.
    type Vector: Send + Sync;
    /// The embedding.
    type Embedding: Send + Sync;

    /// Name and size of the processor, for people: "2 threads, avx2".
    fn describe(&self) -> String;

    /// Tokens of one forward pass: enough work for the whole processor, and no more, since it
    /// bounds the memory of activations and how late a cancel is seen.
    fn chunk_tokens(&self) -> usize;

    /// Rows that pass through the linear layers together: bounds the memory of the widest buffers.
    fn linear_rows(&self) -> usize;

    /// The most that [`Backend::chunk_tokens`] is on any processor of this kind.
    fn most_chunk_tokens() -> usize;

    /// Bytes of the buffers of a forward pass of `tokens` tokens through layers of `widths`: those
    /// of all its activations, and of the products within a layer.
    fn pass_bytes(widths: LayerWidths, tokens: usize) -> u64;

    /// Whether other programs take from the same memory all the time and freed memory goes back to
    /// them, so that [`Backend::free_memory`] has another answer each time. Otherwise what is free
    /// after loading is ours from then on.
    fn shares_memory() -> bool;

    /// Bytes of memory that are free for keys and activations, where the processor or its system
    /// says so.
    ///
    /// # Errors
    /// If the processor fails.
    fn free_memory(&self) -> Result<Option<u64>, TensorError>;

    /// The most bytes of its own memory that were in use since this was last asked, where it has
    /// any: weights, keys and activations.
    ///
    /// # Errors
    /// If the processor fails.
    fn take_peak_memory(&self) -> Result<Option<u64>, TensorError>;

    /// Measures [`Peak`] with weights in `precision`.
    ///
    /// # Errors
    /// If the processor fails.
    fn peak(&self, precision: Precision) -> Result<Peak, TensorError>;

    /// The moment at which the work handed over so far is done.
    ///
    /// # Errors
    /// If the processor fails.
    fn mark(&self) -> Result<Self::Mark, TensorError>;

    /// The time from one moment to a later one; waits for it.
    ///
    /// # Errors
    /// If the processor fails.
    fn between(&self, start: &Self::Mark, end: &Self::Mark) -> Result<Duration, TensorError>;

    /// Waits until all work handed over so far is done.
    ///
    /// # Errors
    /// If some of it failed.
    fn synchronize(&self) -> Result<(), TensorError>;

    /// Matrices `[outputs, inputs]`, stacked along the outputs.
    ///
    /// # Errors
    /// If there is no memory for them.
    fn matrix(
        &self,
        parts: &[ElementsView<'_>],
        inputs: usize,
    ) -> Result<Self::Matrix, TensorError>;

    /// Two matrices `[outputs, inputs]` for [`Backend::linear_gated`].
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn pair(
        &self,
        gate: ElementsView<'_>,
        up: ElementsView<'_>,
        inputs: usize,
    ) -> Result<Self::Matrix, TensorError>;

    /// Weights of a norm, biases, or frequencies.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, TensorError>;

    /// An embedding of `vocab` rows of `hidden` elements.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn embedding(
        &self,
        rows: RowReader,
        vocab: usize,
        hidden: usize,
    ) -> Result<Self::Embedding, TensorError>;

    /// No activations yet; for layers with weights in `precision`, in passes of one kind.
    fn activations(&self, precision: Precision, pass: Pass) -> Self::Activations;

    /// Grows `rows` to `len` elements if it has fewer; what was there may be lost.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn rows_at_least(&self, rows: &mut Self::Rows, len: usize) -> Result<(), TensorError>;

    /// Grows `sums` to `len` elements if it has fewer; what was there may be lost.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn sums_at_least(&self, sums: &mut Self::Sums, len: usize) -> Result<(), TensorError>;

    /// A copy of `rows`.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn copy_rows(&self, rows: Part<'_, Self::Rows>) -> Result<Self::Rows, TensorError>;

    /// Copies `rows` to the program, as f32 and of the same length; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn read_rows(&self, rows: Part<'_, Self::Rows>, to: &mut [f32]) -> Result<(), TensorError>;

    /// Calls `task` with every number below `count`, on the threads of the program that are there
    /// for computing: for what is computed where the program runs, whatever the processor.
    fn tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync));

    /// Copies `rows` to a place in another buffer, of the same length.
    ///
    /// # Errors
    /// If the processor fails.
    fn put_rows(
        &self,
        rows: Part<'_, Self::Rows>,
        to: PartMut<'_, Self::Rows>,
    ) -> Result<(), TensorError>;

    /// Copies `sums` to a place in another buffer, of the same length.
    ///
    /// # Errors
    /// If the processor fails.
    fn put_sums(
        &self,
        sums: Part<'_, Self::Sums>,
        to: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Copies `sums` to the program, of the same length; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn read(&self, sums: Part<'_, Self::Sums>, to: &mut [f32]) -> Result<(), TensorError>;

    /// No keys (or values) yet, with room for `capacity` elements of heads of `shape`.
    ///
    /// # Errors
    /// As [`Backend::matrix`], or if this backend cannot keep them in `precision`.
    fn kv(
        &self,
        precision: KvPrecision,
        shape: HeadShape,
        capacity: usize,
    ) -> Result<Self::Kv, TensorError>;

    /// Appends new keys and values, rounded to the precision of what is cached.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn append(
        &self,
        cached: [&mut Self::Kv; 2],
        new: [Part<'_, Self::Rows>; 2],
    ) -> Result<(), TensorError>;

    /// Appends keys of the same precision.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn extend(&self, kv: &mut Self::Kv, other: Part<'_, Self::Kv>) -> Result<(), TensorError>;

    /// A copy of keys (or values) as they are stored; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn kv_bytes(&self, kv: Part<'_, Self::Kv>) -> Result<KvBytes, TensorError>;

    /// Appends what [`Backend::kv_bytes`] gave of keys of the same precision and shape.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    ///
    /// # Panics
    /// If they are not whole elements, or not as many scales as belong to them.
    fn extend_bytes(&self, kv: &mut Self::Kv, stored: &KvBytes) -> Result<(), TensorError>;

    /// Keeps the first `len` elements.
    fn truncate(&self, kv: &mut Self::Kv, len: usize);

    /// Makes room for `len` more elements, as an [`Backend::append`] would leave them: a step that
    /// is [replayed](Backend::replay) fills it. False, and nothing done, if there is no room.
    fn advance(&self, kv: &mut Self::Kv, len: usize) -> bool;

    /// Says which tokens stand at which positions, for [`Backend::embed`] and [`Backend::angles`].
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn set_ids(
        &self,
        ids: &mut Self::Ids,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<(), TensorError>;

    /// Fills `x [tokens, hidden]` with the embeddings of the tokens, each below the vocabulary's
    /// size.
    ///
    /// # Errors
    /// If the processor fails.
    fn embed(
        &self,
        table: &Self::Embedding,
        ids: &Self::Ids,
        x: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Fills `out [tokens, head_dim]` with the cosines, then the sines, of all pairs of each
    /// position. The angle is `position * frequency` in f32, as in Transformers: at position
    /// 100,000 that rounding is visible. `frequencies` is `[head_dim / 2]`, radians per position.
    ///
    /// # Errors
    /// If the processor fails.
    fn angles(
        &self,
        frequencies: &Self::Vector,
        ids: &Self::Ids,
        out: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// The largest of `sums`, the lower on a tie; `None` if one of them is not finite. Waits for
    /// what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn largest(&self, sums: Part<'_, Self::Sums>) -> Result<Option<u32>, TensorError> {
        self.choose(sums, &Sampling::default(), None, 0)
    }

    /// Flags that are set as `flags` are.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn flags(&self, flags: &[bool]) -> Result<Self::Flags, TensorError>;

    /// `positions`, which ascend.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn listed(&self, positions: &[u32]) -> Result<Self::Listed, TensorError>;

    /// `kept`, for [`Segment::kept`].
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn kept(&self, kept: KeptKeys) -> Result<Self::Kept, TensorError>;

    /// The token that `sampling` [chooses](Sampling::choose) by its logit and `uniform`, a random
    /// number below 2^53; it is added to those `seen`, which are needed if these are penalized.
    /// `None` if a logit is not finite. Waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn choose(
        &self,
        logits: Part<'_, Self::Sums>,
        sampling: &Sampling,
        seen: Option<&mut Self::Flags>,
        uniform: u64,
    ) -> Result<Option<u32>, TensorError> {
        let chosen = self.choose_all(&mut [Choice { logits, sampling, seen, uniform }])?;
        Ok(chosen.into_iter().next().flatten())
    }

    /// One token for each of `choices`, as [`Backend::choose`] takes it: those of all sequences
    /// that decode, in one go. Waits once.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn choose_all(&self, choices: &mut [Choice<'_, Self>])
    -> Result<Vec<Option<u32>>, TensorError>;

    /// Runs `step`, a forward pass of one token of each of some sequences that grows no buffer, and
    /// keeps what it did, where that makes running it again cheaper. `None`, and `step` not run,
    /// where it does not.
    ///
    /// # Errors
    /// Those of `step`, or if the processor fails.
    fn record<E: From<TensorError>>(
        &self,
        step: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<Self::Recording>, E>;

    /// Whether [`Backend::replay`] can run it so much later: there is room for the keys, and what
    /// comes out is to the last bit what the step would give if it were not recorded.
    fn can_replay(&self, recording: &Self::Recording, later: u32) -> bool;

    /// Runs a recorded step again, on the same buffers, for the ids that were set since: as if the
    /// token of every sequence stood `later` positions later, and as many keys had been appended
    /// behind its last ones meanwhile. It uses the buffers' memory as it was when the step was
    /// recorded, which it keeps.
    ///
    /// # Errors
    /// If it [cannot](Backend::can_replay), the step was recorded by another backend, or the
    /// processor fails.
    fn replay(&self, recording: &mut Self::Recording, later: u32) -> Result<(), TensorError>;

    /// `out[r] = x[r] / rms(x[r]) * weight` for every row of `x [rows, width of weight]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn rms_norm(
        &self,
        x: Part<'_, Self::Sums>,
        weight: &Self::Vector,
        eps: f32,
        out: &mut Self::Activations,
    ) -> Result<(), TensorError>;

    /// `y = x · Wᵀ (+ bias)`. `y` is `[rows, outputs]`, bias `[outputs]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Rows>,
    ) -> Result<(), TensorError>;

    /// `y = x · Wᵀ` in f32: the logits.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_sums(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// `y += x · Wᵀ (+ bias)`: a linear layer that ends in the residual stream.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_add(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// [`Backend::linear_add`] of the output of attention, `x [rows, inputs]`. `scratch` is what it
    /// may be copied to.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_add_rows(
        &self,
        x: Part<'_, Self::Rows>,
        scratch: &mut Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// `out = silu(x · gateᵀ) * (x · upᵀ)` of a [`Backend::pair`] (SwiGLU, arXiv 2002.05202); bias
    /// is `[2, outputs]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_gated(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        out: &mut Self::Activations,
    ) -> Result<(), TensorError>;

    /// As [`Backend::linear`], of the outputs of `w`, by all of its inputs: for rows that decode. A
    /// row of `y` begins `stride` elements behind the one before. `bias` is that of the whole.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab(
        &self,
        x: &Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Rows>,
        stride: usize,
    ) -> Result<(), TensorError>;

    /// As [`Backend::linear_sums`], of the outputs of `w` by its inputs, for rows that decode: `x`
    /// is `[rows, inputs of w]`. A row of `y` begins `stride` elements behind the one before.
    /// `bias` is that of the whole; of no inputs it is all there is.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab_sums(
        &self,
        x: &Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
        stride: usize,
    ) -> Result<(), TensorError>;

    /// [`Backend::slab_sums`] of columns of the output of attention: those of its rows `x [rows,
    /// all inputs]` that are inputs of `w`. `scratch` is what they may be copied to. `y` is `[rows,
    /// outputs of w]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab_sums_rows(
        &self,
        x: Part<'_, Self::Rows>,
        scratch: &mut Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// As [`Backend::linear_gated`], of the outputs of `w`, by all of its inputs: for rows that
    /// decode. `out` is `[rows, outputs of w]`; `bias` is that of the whole.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab_gated(
        &self,
        x: &Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        out: &mut Self::Activations,
    ) -> Result<(), TensorError>;

    /// Takes the rows of `qkv [tokens, (heads + 2 kv_heads) * head_dim]` apart, normalises the
    /// heads of q and k if the model does, and rotates them by the angles of their token.
    ///
    /// # Errors
    /// If the processor fails.
    fn split_and_rotate(
        &self,
        qkv: Part<'_, Self::Rows>,
        shape: HeadShape,
        rotation: Rotation<'_, Self>,
        out: SplitQkv<'_, Self>,
    ) -> Result<(), TensorError>;

    /// Attention of the rows of `q [tokens, heads, head_dim]` that belong to `sequences`, each over
    /// the keys of its own segments: a query sees a key that is not hidden and whose position is
    /// not greater than its own. Fills their rows of `out [tokens, heads, head_dim]` with the
    /// normalised output and of `lse [tokens, heads]` with the log-sum-exp of the scaled scores; a
    /// row that sees no key gets zeros and minus infinity. Rows of no sequence may hold anything
    /// afterwards.
    ///
    /// What comes out for a sequence does not depend, to the last bit, on the others of the call;
    /// and of sequences of one token each, as in decoding, not on how many there are.
    ///
    /// # Errors
    /// If the processor fails.
    ///
    /// # Panics
    /// If sequences share rows or are not in the order of their rows, or a row has no position.
    fn attend(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequences: &[Sequence<'_, Self>],
        out: PartMut<'_, Self::Rows>,
        lse: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Softmax weight of each key, `over` the rows of `sequence` in `q [tokens, heads, head_dim]`
    /// and the query heads that share a KV head: their sum or their largest. Fills `sums [kv_heads,
    /// keys]`, the tokens of all segments one after the other, with 0 for a key that no row sees or
    /// that a head does not have. `lse [tokens, heads]` is that of attention over all keys that
    /// count, be they of other calls, as [`Backend::attend`] and [`Backend::merge`] give it.
    ///
    /// # Errors
    /// If the processor fails.
    fn mass(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Self::Sums>,
        over: MassOver,
        sums: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Block-sparse attention of `sequence`, whose keys are not hidden: as [`Backend::attend`],
    /// over those keys that `mask` says.
    ///
    /// # Errors
    /// If the processor fails, or cannot: keys in 8 bits.
    ///
    /// # Panics
    /// If `mask` was made for other numbers of heads or tiles.
    fn attend_tiles(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: PartMut<'_, Self::Rows>,
        lse: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Softmax weights of the rows of `sequence`, which are the last of its keys, summed for each
    /// query head into `vertical [heads, keys]`, over the rows, by key, and into `slash [heads,
    /// keys]`, over rows and keys, by how many keys a key is before the row's own. `lse [tokens,
    /// heads]` is that of attention over all keys.
    ///
    /// # Errors
    /// As [`Backend::attend_tiles`].
    ///
    /// # Panics
    /// If there are more rows than keys.
    fn lines(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Self::Sums>,
        vertical: PartMut<'_, Self::Sums>,
        slash: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Estimated softmax weight of every [tile](crate::TileMask) of keys for every tile of the rows
    /// of `sequence` and each query head, summed over the rows of the grid that `grain` says: fills
    /// `sums [heads, query tiles, key tiles]`, with 0 where no row sees a key. A row of the grid
    /// sees what does not begin behind its last token.
    ///
    /// # Errors
    /// As [`Backend::attend_tiles`].
    fn tile_mass(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        sums: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Of each row of `weights [heads, query tiles, key tiles]`, which tiles hold `share` of it:
    /// the first and `own`, those of its query tile, whatever they weigh; then the heaviest until
    /// the share is reached, and all that weigh as much as the last of them. Tiles behind `own`
    /// weigh nothing. Gives a bit for each tile of keys, `[heads, query tiles, key tiles / 32]`,
    /// the lowest of a word first; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    ///
    /// # Panics
    /// If there are not as many weights.
    fn heaviest(
        &self,
        weights: Part<'_, Self::Sums>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>, TensorError>;

    /// What the queries `q [tokens, heads, head_dim]` are like: of each head their sum and then the
    /// sum of their products with each other, `[heads, head_dim + 1, head_dim]`. The tokens stand
    /// at `start` and behind; they are turned back to what they were before they were rotated by
    /// `frequencies [head_dim / 2]`, radians per position. Waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for, or has no kernel for such heads.
    fn moments(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>, TensorError>;

    /// The logarithm of what queries of a normal distribution are expected to give each of `keys
    /// [tokens, kv_heads, head_dim]`, `m·k / sqrt(head_dim) + k·S k / (2 head_dim)`: `[heads,
    /// tokens]`. Of each head's `queries [heads, head_dim + 1, head_dim]` the first row is the mean
    /// m, the others are the covariance S, which is symmetric. Waits for what computes them.
    ///
    /// # Errors
    /// As [`Backend::moments`].
    fn expected_scores(
        &self,
        keys: Part<'_, Self::Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>, TensorError>;

    /// The lengths of the keys, or values, `kv [tokens, kv_heads, head_dim]`: `[kv_heads, tokens]`.
    /// Waits for what computes them.
    ///
    /// # Errors
    /// As [`Backend::moments`].
    fn norms(&self, kv: Part<'_, Self::Kv>, shape: HeadShape) -> Result<Vec<f32>, TensorError>;

    /// Adds the rows of `rows [n, width]` up into `sums [width]`, in their order: to what is there,
    /// or to 0 if it is the `first` time.
    ///
    /// # Errors
    /// If the processor fails.
    fn add_rows(
        &self,
        rows: Part<'_, Self::Sums>,
        sums: PartMut<'_, Self::Sums>,
        first: bool,
    ) -> Result<(), TensorError>;

    /// The keys (or values) of the `chosen` tokens of `kv [tokens, kv_heads, head_dim]`, in that
    /// order, as they are stored.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    ///
    /// # Panics
    /// If a chosen token is not one of them.
    fn gather(
        &self,
        kv: Part<'_, Self::Kv>,
        shape: HeadShape,
        chosen: &[u32],
    ) -> Result<Self::Kv, TensorError>;

    /// Merges the partial attention `(part, part_lse)` into `(out, lse)`: the result is attention
    /// over the keys of both (the paper's equation for phase 2). Outputs are `[rows, head_dim]`,
    /// normalised; log-sum-exps `[rows]`. A part that saw no key (minus infinity) changes nothing.
    ///
    /// # Errors
    /// If the processor fails.
    fn merge(
        &self,
        out: PartMut<'_, Self::Rows>,
        lse: PartMut<'_, Self::Sums>,
        part: Part<'_, Self::Rows>,
        part_lse: Part<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Merges `count` partial attentions, `parts [count, rows, head_dim]` with log-sum-exps `lse
    /// [count, rows]`, as [`Backend::merge`] would one after the other, into `out [rows,
    /// head_dim]`; zeros for a row that saw no key in any of them.
    ///
    /// # Errors
    /// If the processor fails.
    fn merge_all(
        &self,
        count: usize,
        parts: Part<'_, Self::Rows>,
        lse: Part<'_, Self::Sums>,
        out: PartMut<'_, Self::Rows>,
    ) -> Result<(), TensorError>;
}
