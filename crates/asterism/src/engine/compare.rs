//! Forward passes over all tokens of a context, through its first layer with all before them in
//! sight, to find whose values that changes.

use super::EngineError;
use super::command::{At, Command, Purpose, Rows};
use super::group::Group;
use super::host::Host;
use super::loaded::Loaded;
use super::pace::Pace;
use super::step::{Sequence, Steps, run};
use crate::attention::{CompareAttention, ContextKeys, compared_layer};
use crate::cancel::Cancel;
use crate::model::Workspace;
use crate::plan::{Plan, Span};
use crate::tensor::Backend;
use std::collections::VecDeque;

/// The passes that are left.
pub(super) struct Comparing<B: Backend> {
    /// Tokens that pass at once, and the host that has their old values: of each host in the order
    /// of what it holds.
    passes: VecDeque<(usize, Span)>,
    pace: Pace<B>,
}

impl<B: Backend> Comparing<B> {
    /// Passes of at most `chunk` tokens over a context of `plan`.
    pub(super) fn new(plan: &Plan, chunk: usize) -> Self {
        let of_host = |(host, spans): (usize, &Vec<Span>)| {
            let chunks = spans.iter().flat_map(|span| span.chunks(chunk));
            chunks.map(|chunk| (host, chunk)).collect::<Vec<_>>()
        };
        let passes = plan.hosts.iter().enumerate().flat_map(of_host).collect();
        Self { passes, pace: Pace::new() }
    }

    /// Tokens of the next pass.
    pub(super) fn pass_tokens(&self) -> usize {
        self.passes.front().map_or(0, |(_, span)| span.len)
    }

    /// Whether all passes are done.
    pub(super) fn is_done(&self) -> bool {
        self.passes.is_empty()
    }

    /// Runs the next pass over tokens of `context [plan.tokens]`, for the question of `sequence`.
    /// Returns the bytes that hosts sent.
    pub(super) fn pass(
        &mut self,
        group: &mut Group<B>,
        steps: &mut Steps<B>,
        sequence: &Sequence<B>,
        (plan, context): (&Plan, &[u32]),
        cancel: &Cancel,
    ) -> Result<u64, EngineError> {
        let Some((owner, span)) = self.passes.pop_front() else { return Ok(0) };
        let question = sequence.question;
        let at = At::Span(span);
        let command = Command::Step {
            sequences: [Rows { context: sequence.context, at, hides: None }].into(),
            layers: 0..compared_layer(group.lead.loaded.layers()) + 1,
            purpose: Purpose::Compare { question, owner },
        };
        let tokens = plan.tokens_at(context, span);
        let work = &mut steps.question;
        let sent = run(group, &command, |lead| {
            compare(lead, sequence, (owner, span), tokens, cancel, work)
        })?;
        self.pace.layer(&group.lead.loaded.backend, self.is_done())?;
        Ok(sent)
    }
}

/// The query host's part of a pass over `tokens` at `span`, whose old values `owner` has.
fn compare<B: Backend>(
    lead: &mut Host<B>,
    sequence: &Sequence<B>,
    (owner, span): (usize, Span),
    tokens: &[u32],
    cancel: &Cancel,
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    let Loaded { backend, decoder } = &*lead.loaded;
    let layer = compared_layer(lead.loaded.layers());
    let positions: Vec<u32> = span.positions().collect();
    decoder.begin(backend, tokens, &positions, layer, work)?;
    let mut attention = CompareAttention::new(
        backend,
        &*lead.comm,
        decoder.shape(),
        decoder.kv_precision(),
        (span, ContextKeys::of(lead.blocks(sequence.context)?)),
        (layer, owner),
    )?;
    decoder.advance(backend, layer + 1, &mut attention, cancel, work)?;
    match attention.into_values() {
        Some(values) => lead.note_changes(sequence.question, sequence.context, span, &values),
        None => Ok(()),
    }
}
