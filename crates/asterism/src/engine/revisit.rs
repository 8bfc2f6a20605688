//! Forward passes over tokens of a context that are computed anew for one question.

use super::EngineError;
use super::command::{At, Command, Purpose, QuestionId, Rows};
use super::group::Group;
use super::loaded::Loaded;
use super::pace::Pace;
use super::step::{Sequence, Steps, run};
use crate::attention::RevisitAttention;
use crate::cancel::Cancel;
use crate::plan::{Plan, Revisit, Span};
use crate::tensor::Backend;
use std::sync::Arc;

/// The tokens of a context that are computed anew, in the order of their positions, and how far
/// that has come.
pub(super) struct Revisiting<B: Backend> {
    /// `[chosen]`
    tokens: Vec<u32>,
    /// `[chosen]`
    positions: Vec<u32>,
    /// Tokens whose passes are done.
    done: usize,
    /// The pass under way, if there is one.
    pass: Option<Chunk<B>>,
    pace: Pace<B>,
}

/// A pass over some of the tokens.
struct Chunk<B: Backend> {
    /// Their numbers among the chosen ones.
    numbers: Span,
    /// Their positions, on the device and as they are told to others.
    listed: B::Listed,
    positions: Arc<[u32]>,
    layers_done: usize,
}

impl<B: Backend> Revisiting<B> {
    /// Chooses tokens of `context [plan.tokens]`, by how much the question looks at each of them,
    /// `weights [plan.tokens]`, and has all hosts hide their old keys from it. `sequence` gets a
    /// place for the new ones.
    pub(super) fn choose(
        group: &mut Group<B>,
        plan: &Plan,
        context: &[u32],
        revisit: Revisit,
        weights: &[f32],
        sequence: &mut Sequence<B>,
    ) -> Result<Self, EngineError> {
        let chosen = plan.choose_revisited(revisit, weights);
        let place: Vec<u32> = plan.positions().map(|position| position as u32).collect();
        let of = |all: &[u32]| chosen.iter().map(|token| all[*token as usize]).collect::<Vec<_>>();
        let (tokens, positions) = (of(context), of(&place));
        let question = sequence.question;
        let told = positions.clone().into();
        group.obey(&Command::Hide { question, context: sequence.context, positions: told })?;
        sequence.hide(&group.lead, tokens.len())?;
        Ok(Self { tokens, positions, done: 0, pass: None, pace: Pace::new() })
    }

    /// How many tokens are computed anew.
    pub(super) fn count(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens of the next pass, if `chunk` pass at once.
    pub(super) fn pass_tokens(&self, chunk: usize) -> usize {
        chunk.min(self.tokens.len() - self.done)
    }

    /// Whether a pass has begun and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.pass.is_some()
    }

    /// Whether all passes are done.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.tokens.len()
    }

    /// Runs the next layer. Returns the bytes that hosts sent.
    pub(super) fn layer(
        &mut self,
        group: &mut Group<B>,
        steps: &mut Steps<B>,
        sequence: &mut Sequence<B>,
        cancel: &Cancel,
    ) -> Result<u64, EngineError> {
        let layers = group.lead.loaded.layers();
        let mut chunk = match self.pass.take() {
            Some(chunk) => chunk,
            None => self.begin(&group.lead.loaded, steps, sequence)?,
        };
        let layer = chunk.layers_done;
        let command = Command::Step {
            sequences: [Rows {
                context: sequence.context,
                at: At::Listed(Arc::clone(&chunk.positions)),
                hides: Some(sequence.question),
            }]
            .into(),
            layers: layer..layer + 1,
            purpose: Purpose::Revisit,
        };
        let work = &mut steps.question;
        let sent = run(group, &command, |lead| {
            let Loaded { backend, decoder } = &*lead.loaded;
            let (context, anew) = sequence.old_and_new()?;
            let mut attention = RevisitAttention {
                backend,
                comm: &*lead.comm,
                shape: decoder.shape(),
                numbers: chunk.numbers,
                positions: &chunk.listed,
                context,
                anew,
            };
            decoder.advance(backend, 1, &mut attention, cancel, work)?;
            Ok(())
        })?;
        chunk.layers_done += 1;
        let pass_ends = chunk.layers_done == layers;
        if pass_ends {
            self.done = chunk.numbers.end();
        } else {
            self.pass = Some(chunk);
        }
        self.pace.layer(&group.lead.loaded.backend, pass_ends && self.is_done())?;
        Ok(sent)
    }

    /// Begins the pass over the next tokens, as many as pass at once.
    fn begin(
        &self,
        loaded: &Loaded<B>,
        steps: &mut Steps<B>,
        sequence: &mut Sequence<B>,
    ) -> Result<Chunk<B>, EngineError> {
        let Loaded { backend, decoder } = loaded;
        let end = self.tokens.len().min(self.done + backend.chunk_tokens());
        let (tokens, positions) = (&self.tokens[self.done..end], &self.positions[self.done..end]);
        let attending = decoder.config().context_layers();
        decoder.begin(backend, tokens, positions, attending, &mut steps.question)?;
        let numbers = Span::new(self.done..end);
        sequence.old_and_new()?.1.open(numbers);
        let listed = backend.listed(positions)?;
        Ok(Chunk { numbers, listed, positions: positions.into(), layers_done: 0 })
    }
}

/// How much `question` looks at each token of its context, `[plan.tokens]`.
pub(super) fn weights<B: Backend>(
    group: &mut Group<B>,
    plan: &Plan,
    question: QuestionId,
) -> Result<Vec<f32>, EngineError> {
    let outcomes = group.obey(&Command::Weights(question))?;
    let mut parts = Vec::new();
    for (spans, outcome) in plan.hosts.iter().zip(&outcomes) {
        let mut weights = &outcome.weights[..];
        for span in spans {
            let (of_span, rest) = weights.split_at_checked(span.len).unwrap_or_default();
            parts.push((span.start, of_span));
            weights = rest;
        }
    }
    parts.sort_by_key(|(start, _)| *start);
    let weights: Vec<f32> = parts.into_iter().flat_map(|(_, part)| part).copied().collect();
    match weights.iter().position(|weight| !weight.is_finite()) {
        None if weights.len() == plan.tokens => Ok(weights),
        None => Err(EngineError::UnknownContext),
        Some(token) => {
            let position = plan.positions().nth(token).unwrap_or(token);
            Err(EngineError::NotFinite { position })
        }
    }
}
