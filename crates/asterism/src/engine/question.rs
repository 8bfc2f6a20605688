//! A question on its way through the model.
//!
//! A question that revisits its context runs twice: once to see where it looks, and once more when
//! those tokens have been computed anew; or it runs once for each round of choosing them. One whose
//! sources are wanted runs twice as well; the first of them also runs a question that asks nothing,
//! to compare with.

use super::EngineError;
use super::command::QuestionId;
use super::compare::Comparing;
use super::generate::Revisited;
use super::group::Group;
use super::host::Host;
use super::memory;
use super::request::AskRequest;
use super::revisit::{Revisiting, weights};
use super::sources::Source;
use super::step::{Sequence, Steps, Wanted};
use crate::plan::RevisitBy;
use crate::tensor::Backend;
use std::sync::mpsc::Sender;
use std::time::Instant;

/// A question that has not run through the model yet.
pub(super) struct Question<B: Backend> {
    pub(super) request: AskRequest,
    pub(super) sequence: Sequence<B>,
    stage: Stage<B>,
    /// Tokens whose passes of this stage are done.
    done: usize,
    /// Layers of the next pass that are done.
    layers_done: usize,
    pub(super) bytes_sent: u64,
    /// When its first pass began.
    began: Option<Instant>,
    pub(super) revisited: Revisited,
    /// Tokens of the context that were computed anew in an earlier round, by their indices.
    earlier: Vec<u32>,
    /// Where it looks, if that is wanted.
    pub(super) sources: Vec<Source>,
    pub(super) held: Option<Holds>,
}

/// What a question's passes are for.
enum Stage<B: Backend> {
    /// To see where a question looks that asks nothing, if nobody has seen it before.
    Blank,
    /// To see where it looks.
    Weigh,
    /// To see which tokens of the context change, whatever is asked.
    Compare(Comparing<B>),
    /// To compute anew what was chosen.
    Revisit(Revisiting<B>),
    /// To answer.
    Answer,
}

impl<B: Backend> Stage<B> {
    /// The tokens that run to answer `request`.
    fn query<'a>(&self, request: &'a AskRequest) -> &'a [u32] {
        match self {
            Self::Blank => request.blank().unwrap_or(&request.query),
            Self::Weigh | Self::Compare(_) | Self::Revisit(_) | Self::Answer => &request.query,
        }
    }
}

/// What hosts hold for a question; they are told to let go of it when this is dropped.
pub(super) struct Holds {
    question: QuestionId,
    release: Sender<QuestionId>,
}

impl Drop for Holds {
    fn drop(&mut self) {
        // Without a queue there are no hosts any more.
        let _ = self.release.send(self.question);
    }
}

impl<B: Backend> Question<B> {
    /// The question of `request`, which `sequence` has room for. Hosts are told by `release` when
    /// they need not hold anything for it any more.
    pub(super) fn new(
        request: AskRequest,
        sequence: Sequence<B>,
        release: &Sender<QuestionId>,
    ) -> Self {
        let question = sequence.question;
        let revisits = request.plan.revisited(request.revisit) > 0;
        let sourced = request.sourcing.is_some();
        let held = (revisits || sourced).then(|| Holds { question, release: release.clone() });
        Self {
            request,
            sequence,
            stage: match (sourced, revisits) {
                (true, _) => Stage::Blank,
                (false, true) => Stage::Weigh,
                (false, false) => Stage::Answer,
            },
            done: 0,
            layers_done: 0,
            bytes_sent: 0,
            began: None,
            revisited: Revisited::default(),
            earlier: Vec::new(),
            sources: Vec::new(),
            held,
        }
    }

    /// As many layers of the question's pass as are the work of one layer of a context's pass; true
    /// after the last one of its last pass.
    pub(super) fn slice(
        &mut self,
        group: &mut Group<B>,
        steps: &mut Steps<B>,
    ) -> Result<bool, EngineError> {
        let chunk = group.lead.loaded.backend.chunk_tokens();
        // All of a slice are layers of one pass.
        let most = (chunk / self.pass_tokens(chunk).max(1)).max(1);
        for _ in 0..most {
            if self.layers(group, steps, most)? {
                return Ok(true);
            }
            // Revisiting runs one layer at a time, everything else as many as there may be.
            if !matches!(self.stage, Stage::Revisit(_)) || !self.is_under_way() {
                break;
            }
        }
        Ok(false)
    }

    /// Up to `most` layers of a question, of one pass; true after the last one of its last pass.
    fn layers(
        &mut self,
        group: &mut Group<B>,
        steps: &mut Steps<B>,
        most: usize,
    ) -> Result<bool, EngineError> {
        if matches!(self.stage, Stage::Blank) && self.request.blank().is_none() {
            self.stage = Stage::Weigh;
        }
        if matches!(self.stage, Stage::Weigh) && self.compares() && self.request.sourcing.is_none()
        {
            self.begin_to_compare(&group.lead);
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        match &mut self.stage {
            Stage::Blank => {
                let wanted = Wanted::Weights { by_layer: false };
                if self.question_layers(group, steps, most, wanted)? {
                    self.weighed_blank(group)?;
                }
                Ok(false)
            }
            Stage::Weigh => {
                let wanted = Wanted::Weights { by_layer: self.weighs_by_layer() };
                if self.question_layers(group, steps, most, wanted)? {
                    self.weighed(group)?;
                }
                Ok(false)
            }
            Stage::Compare(comparing) => {
                let AskRequest { plan, context_tokens, cancel, .. } = &self.request;
                let of = (&**plan, &**context_tokens);
                self.bytes_sent += comparing.pass(group, steps, &self.sequence, of, cancel)?;
                if comparing.is_done() {
                    let scores = weights(group, plan, self.sequence.question, 1, &[])?;
                    self.choose(group, &scores)?;
                }
                Ok(false)
            }
            Stage::Revisit(revisiting) => {
                let cancel = &self.request.cancel;
                self.bytes_sent += revisiting.layer(group, steps, &mut self.sequence, cancel)?;
                if revisiting.is_done() {
                    self.revisited.time = began.elapsed();
                    self.next_round();
                }
                Ok(false)
            }
            Stage::Answer => self.question_layers(group, steps, most, Wanted::Logits),
        }
    }

    /// Up to `most` layers of a pass over the question's own tokens, or those of the blank one, the
    /// last of which are to bring what is `wanted`; true after the last layer of the last pass.
    fn question_layers(
        &mut self,
        group: &mut Group<B>,
        steps: &mut Steps<B>,
        most: usize,
        wanted: Wanted,
    ) -> Result<bool, EngineError> {
        let Self { request, sequence, stage, done, layers_done, bytes_sent, .. } = self;
        let query = stage.query(request);
        let (chunk, layers) =
            (group.lead.loaded.backend.chunk_tokens(), group.lead.loaded.layers());
        let end = query.len().min(*done + chunk);
        let (tokens, is_last) = (&query[*done..end], end == query.len());
        let wanted = match wanted {
            Wanted::Logits if !is_last => Wanted::Nothing,
            wanted => wanted,
        };
        let cancel = &request.cancel;
        let now = *layers_done..layers.min(*layers_done + most);
        let end_now = now.end;
        *bytes_sent += steps.question_layers(group, sequence, tokens, now, wanted, cancel)?;
        *layers_done = end_now;
        if *layers_done == layers {
            (*done, *layers_done) = (end, 0);
            return Ok(is_last);
        }
        Ok(false)
    }

    /// Tokens of its next pass, if `chunk` pass at once.
    fn pass_tokens(&self, chunk: usize) -> usize {
        match &self.stage {
            Stage::Compare(comparing) => comparing.pass_tokens(),
            Stage::Revisit(revisiting) => revisiting.pass_tokens(chunk),
            stage @ (Stage::Blank | Stage::Weigh | Stage::Answer) => {
                chunk.min(stage.query(&self.request).len() - self.done)
            }
        }
    }

    /// Whether a pass has begun and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        match &self.stage {
            // Its passes are as short as a layer of others.
            Stage::Compare(_) => false,
            Stage::Revisit(revisiting) => revisiting.is_under_way(),
            Stage::Blank | Stage::Weigh | Stage::Answer => self.layers_done > 0,
        }
    }

    /// Whether it matters in which layer it looks at a token.
    fn weighs_by_layer(&self) -> bool {
        let AskRequest { plan, revisit, .. } = &self.request;
        plan.revisited(*revisit) > 0 && plan.revisit_by().is_by_layer()
    }

    /// The blank question has run, and does not count: the question itself begins.
    fn weighed_blank(&mut self, group: &mut Group<B>) -> Result<(), EngineError> {
        let AskRequest { plan, query, sourcing, .. } = &self.request;
        let weights = weights(group, plan, self.sequence.question, 1, &[])?;
        if let Some(sourcing) = sourcing {
            // Questions run one after another: nobody else has found it meanwhile.
            let _ = sourcing.baseline.set(weights);
        }
        self.sequence.rewind(&group.lead, plan.end(), query.len());
        (self.done, self.began, self.stage) = (0, None, Stage::Weigh);
        Ok(())
    }

    /// The question has run to see where it looks, and will run again: to be answered, or to see
    /// where it looks then.
    fn weighed(&mut self, group: &mut Group<B>) -> Result<(), EngineError> {
        let rows = if self.weighs_by_layer() { group.lead.loaded.layers() } else { 1 };
        let AskRequest { plan, query, sourcing, .. } = &self.request;
        let weights = weights(group, plan, self.sequence.question, rows, &self.earlier)?;
        if let Some(sourcing) = sourcing.as_ref().filter(|_| self.earlier.is_empty()) {
            let of_all_layers = RevisitBy::Question.scores(&weights, plan.tokens);
            self.sources = sourcing.sources(plan, &of_all_layers);
        }
        let scores = plan.revisit_by().scores(&weights, plan.tokens);
        self.sequence.rewind(&group.lead, plan.end(), query.len());
        self.done = 0;
        if self.compares() {
            self.begin_to_compare(&group.lead);
            return Ok(());
        }
        self.choose(group, &scores)
    }

    /// Whether tokens are chosen by how much their values change.
    fn compares(&self) -> bool {
        let AskRequest { plan, revisit, .. } = &self.request;
        plan.revisited(*revisit) > 0 && plan.revisit_by() == RevisitBy::Values
    }

    fn begin_to_compare(&mut self, lead: &Host<B>) {
        let chunk = lead.loaded.backend.chunk_tokens();
        self.stage = Stage::Compare(Comparing::new(&self.request.plan, chunk));
    }

    /// Chooses the tokens that are computed anew, if any are, by `scores [plan.tokens]`.
    fn choose(&mut self, group: &mut Group<B>, scores: &[f32]) -> Result<(), EngineError> {
        let AskRequest { plan, context_tokens, revisit, .. } = &self.request;
        self.stage = Stage::Answer;
        let count = plan.revisited(*revisit);
        if count > 0 {
            let is_first = self.earlier.is_empty();
            let count = if is_first { plan.first_round(count) } else { count };
            let chosen = plan.choose_revisited(count, scores, &self.earlier);
            self.revisited.tokens = chosen.len();
            let sequence = &mut self.sequence;
            let revisiting = Revisiting::new(group, plan, context_tokens, chosen, sequence)?;
            self.stage = Stage::Revisit(revisiting);
        }
        Ok(())
    }

    /// Tokens were computed anew: the question is answered, or, if there are more to choose, looks
    /// where they are.
    fn next_round(&mut self) {
        let AskRequest { plan, revisit, .. } = &self.request;
        let count = plan.revisited(*revisit);
        if let Stage::Revisit(revisiting) = std::mem::replace(&mut self.stage, Stage::Answer) {
            self.earlier = revisiting.into_chosen();
            if self.earlier.len() < count {
                self.stage = Stage::Weigh;
            }
        }
    }
}

/// What the query host needs for a question: room for it, its answer and what it revisits.
///
/// # Errors
/// [`EngineError::NoRoom`].
pub(super) fn sequence<B: Backend>(
    group: &Group<B>,
    question: QuestionId,
    request: &AskRequest,
) -> Result<Sequence<B>, EngineError> {
    let lead = &group.lead;
    let AskRequest { plan, query, sourcing, .. } = request;
    let blank = sourcing.as_ref().and_then(|sourcing| sourcing.blank.as_ref());
    let tokens = query.len().saturating_add(request.settings.max_tokens);
    let tokens = tokens.max(blank.map_or(0, Vec::len));
    let revisited = plan.revisited(request.revisit);
    let noted = match (revisited > 0, sourcing) {
        (true, _) if plan.revisit_by().is_by_layer() => memory::noted(plan, lead.loaded.layers()),
        (false, None) => 0,
        _ => memory::noted(plan, 1),
    };
    let needed = memory::keys(&lead.loaded, tokens)
        .saturating_add(memory::revisit(&lead.loaded, plan, revisited))
        .saturating_add(noted);
    let no_room = |free| EngineError::NoRoom { tokens, revisited, needed, free };
    let reservation = lead.ledger.reserve(needed).map_err(no_room)?;
    Sequence::new(lead, (request.context, question), plan.end(), query.len(), reservation)
}
