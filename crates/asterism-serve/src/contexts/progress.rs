//! What is encoded for a context, and how far that has come.

use super::cells;
use crate::wire::{Cell, Document, DocumentInfo};
use asterism::engine::{Change, Context, Origin, Prepared, Progress};
use asterism::plan::Span;

/// What is, or was last, encoded for it.
#[derive(Default)]
pub(super) struct Work {
    pub(super) tokens: usize,
    pub(super) documents: Vec<DocumentInfo>,
    pub(super) cells: Vec<Cell>,
    /// Whether a host encodes its blocks one by one, as star does.
    by_block: bool,
    pub(super) predicted: Option<f64>,
    pub(super) seconds: Option<f64>,
    /// In tokens times layers.
    all: u64,
    so_far: u64,
}

impl Work {
    /// What `prepared` will take.
    pub(super) fn of(prepared: &Prepared, predicted: Option<f64>) -> Self {
        let (plan, documents) = (prepared.plan(), prepared.documents());
        let layers = prepared.engine().config().layers;
        Self {
            tokens: plan.tokens,
            documents: document_infos(documents),
            cells: cells(plan, documents),
            by_block: plan.spec.method.as_star().is_some(),
            predicted,
            seconds: None,
            all: asterism::engine::Phase1::work(plan, layers),
            so_far: 0,
        }
    }

    /// Of a context that is on disk.
    pub(super) fn of_stored(tokens: usize, documents: Vec<DocumentInfo>) -> Self {
        Self { tokens, documents, ..Self::default() }
    }

    /// Of a context that is encoded.
    pub(super) fn done(context: &Context) -> Self {
        let mut work = Self {
            tokens: context.tokens().len(),
            documents: document_infos(context.documents()),
            cells: cells(context.plan(), context.documents()),
            ..Self::default()
        };
        work.finish(context, None);
        work
    }

    pub(super) fn progress(&self) -> f64 {
        if self.all == 0 { 1.0 } else { (self.so_far as f64 / self.all as f64).min(1.0) }
    }

    /// A host took a step; the blocks that it finished.
    pub(super) fn step(&mut self, step: Progress) -> Vec<usize> {
        self.so_far += step.work;
        let Some(block) = step.finished_block else { return Vec::new() };
        let of_host = self.cells.iter_mut().filter(|cell| cell.host == step.host);
        let is_done = |number: usize| !self.by_block || number == block;
        let done = of_host.enumerate().filter(|(number, _)| is_done(*number));
        let mark = |(_, cell): (usize, &mut Cell)| {
            cell.state = state_name(step.origin);
            cell.index
        };
        done.map(mark).collect()
    }

    pub(super) fn finish(&mut self, context: &Context, before: Option<&Context>) {
        let phase1 = context.phase1();
        let made = if phase1.is_loaded { Origin::Loaded } else { Origin::Encoded };
        let changes = before.map(|before| context.changes_from(before)).unwrap_or_default();
        for cell in &mut self.cells {
            let span = Span { start: cell.start, len: cell.tokens };
            let is_reused = phase1.reused.contains(&span);
            cell.state = state_name(if is_reused { Origin::Reused } else { made });
            let change = changes.iter().find(|(changed, _)| *changed == span);
            cell.change = change.map(|(_, change)| change_name(*change));
        }
        self.seconds = Some(phase1.time.as_secs_f64());
        self.so_far = self.all;
    }
}

fn state_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Encoded => "encoded",
        Origin::Reused => "reused",
        Origin::Loaded => "loaded",
    }
}

fn change_name(change: Change) -> &'static str {
    match change {
        Change::Reused => "reused",
        Change::Edited => "edited",
        Change::Moved => "moved",
        Change::Anchor => "anchor",
        Change::GivenUp => "given_up",
    }
}

/// What is known of documents beside their texts.
pub(crate) fn document_infos(documents: &[asterism::text::Document]) -> Vec<DocumentInfo> {
    let info = |document: &asterism::text::Document| DocumentInfo {
        name: document.name().to_owned(),
        characters: document.text().chars().count(),
        tokens: document.tokens().len(),
    };
    documents.iter().map(info).collect()
}

/// The documents of a context as they were given.
pub(crate) fn documents_of(context: &Context) -> Vec<Document> {
    let document = |document: &asterism::text::Document| Document {
        name: document.name().to_owned(),
        text: document.text().to_owned(),
    };
    context.documents().iter().map(document).collect()
}
