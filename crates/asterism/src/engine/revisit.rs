//! Forward passes over tokens of a context that are computed anew for one question.

use super::EngineError;
use super::command::{At, Command, Purpose, QuestionId, Rows};
use super::group::Group;
use super::loaded::Loaded;
use super::pace::Pace;
use super::step::{Sequence, Steps, run};
use crate::attention::RevisitAttention;
use crate::cancel::Cancel;
use crate::plan::{Plan, Span};
use crate::tensor::Backend;
use std::sync::Arc;

/// The tokens of a context that are computed anew, in the order of their positions, and how far
/// that has come.
pub(super) struct Revisiting<B: Backend> {
    /// `[chosen]`: their indices in the context
    chosen: Vec<u32>,
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
    /// The tokens of `context [plan.tokens]` that are `chosen`, whose old keys all hosts hide from
    /// the question of `sequence` from now on. It gets a place for the new ones.
    pub(super) fn new(
        group: &mut Group<B>,
        plan: &Plan,
        context: &[u32],
        chosen: Vec<u32>,
        sequence: &mut Sequence<B>,
    ) -> Result<Self, EngineError> {
        let place: Vec<u32> = plan.positions().map(|position| position as u32).collect();
        let of = |all: &[u32]| chosen.iter().map(|token| all[*token as usize]).collect::<Vec<_>>();
        let (tokens, positions) = (of(context), of(&place));
        let question = sequence.question;
        let told = positions.clone().into();
        group.obey(&Command::Hide { question, context: sequence.context, positions: told })?;
        sequence.hide(&group.lead, tokens.len())?;
        Ok(Self { chosen, tokens, positions, done: 0, pass: None, pace: Pace::new() })
    }

    /// The tokens that are computed anew, by their indices in the context.
    pub(super) fn into_chosen(self) -> Vec<u32> {
        self.chosen
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

/// How much `question` looks at each token of its context, `[rows, plan.tokens]`: in all layers, or
/// in each. Of the tokens `anew`, by their indices, the query host holds the keys that count.
pub(super) fn weights<B: Backend>(
    group: &mut Group<B>,
    plan: &Plan,
    question: QuestionId,
    rows: usize,
    anew: &[u32],
) -> Result<Vec<f32>, EngineError> {
    let outcomes = group.obey(&Command::Weights(question))?;
    let mut weights = vec![0.0; rows * plan.tokens];
    for (host, outcome) in outcomes.iter().enumerate() {
        let spans = plan.hosts.get(host).map_or(&[][..], |spans| spans);
        let own = spans.iter().map(|span| span.len).sum::<usize>();
        let keys = if host == 0 { own + anew.len() } else { own };
        if outcome.weights.len() != rows * keys {
            return Err(EngineError::UnknownContext);
        }
        for row in 0..rows {
            let to = &mut weights[row * plan.tokens..(row + 1) * plan.tokens];
            let mut from = &outcome.weights[row * keys..(row + 1) * keys];
            for span in spans {
                let (of_span, rest) = from.split_at(span.len);
                to[plan.indices(*span)].copy_from_slice(of_span);
                from = rest;
            }
        }
    }
    // What was computed anew is hidden where it was: nobody has added to these.
    let of_lead = outcomes.first().map_or(&[][..], |outcome| &outcome.weights);
    let keys = of_lead.len() / rows.max(1);
    for (row, of_row) in of_lead.chunks_exact(keys.max(1)).enumerate() {
        for (token, weight) in anew.iter().zip(&of_row[keys - anew.len()..]) {
            weights[row * plan.tokens + *token as usize] = *weight;
        }
    }
    match weights.iter().position(|weight| !weight.is_finite()) {
        None => Ok(weights),
        Some(place) => {
            let position = plan.positions().nth(place % plan.tokens).unwrap_or(place);
            Err(EngineError::NotFinite { position })
        }
    }
}
