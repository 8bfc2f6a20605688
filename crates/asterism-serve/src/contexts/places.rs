//! From blocks and positions of a context to its documents, and back.

use crate::wire::{Cell, PlaceInfo, SourceInfo};
use asterism::engine::{Context, EngineError, Source};
use asterism::plan::{Plan, Span};
use asterism::text::{Document, Place};

/// The blocks of `plan` in the order of the text, none of them encoded.
pub(crate) fn cells(plan: &Plan, documents: &[Document]) -> Vec<Cell> {
    let hosts = plan.hosts.iter().enumerate();
    let mut spans: Vec<(usize, Span)> =
        hosts.flat_map(|(host, spans)| spans.iter().map(move |span| (host, *span))).collect();
    spans.sort_by_key(|(_, span)| span.start);
    let cell = |(index, (host, span)): (usize, (usize, Span))| {
        let tokens = plan.indices(span);
        let shares = |document: &&Document| {
            let own = document.tokens();
            own.start < tokens.end && tokens.start < own.end
        };
        let documents = documents.iter().filter(shares);
        Cell {
            index,
            start: span.start,
            tokens: span.len,
            host,
            state: "waiting",
            change: None,
            documents: documents.map(|document| document.name().to_owned()).collect(),
        }
    };
    spans.into_iter().enumerate().map(cell).collect()
}

/// The block of number `index` in the order of the text.
pub(crate) fn span_of(plan: &Plan, index: usize) -> Option<Span> {
    let mut spans: Vec<Span> = plan.hosts.iter().flatten().copied().collect();
    spans.sort_by_key(|span| span.start);
    spans.get(index).copied()
}

/// The number of the block that holds `position`.
fn index_of(plan: &Plan, position: usize) -> usize {
    let before = |span: &&Span| span.start <= position;
    plan.hosts.iter().flatten().filter(before).count().saturating_sub(1)
}

/// The text of a block, and where it stands.
pub(crate) fn block_text(
    context: &Context,
    span: Span,
) -> Result<(String, Vec<PlaceInfo>), EngineError> {
    let places = context.places(context.plan().indices(span));
    let text = match &places[..] {
        [] => context.passage(span)?,
        places => places.iter().map(Place::text).collect::<Vec<_>>().join("\n\n"),
    };
    Ok((text, places.iter().map(place_info).collect()))
}

fn place_info(place: &Place<'_>) -> PlaceInfo {
    let characters = place.chars();
    let (name, text) = (place.document.name(), place.document.text());
    let lines = |bytes: usize| text[..bytes].matches('\n').count() + 1;
    let read = asterism_documents::Document::of_text(name.to_owned(), text.to_owned());
    let places = read.places(place.bytes.clone());
    PlaceInfo {
        document: name.to_owned(),
        start: characters.start,
        end: characters.end,
        first_line: lines(place.bytes.start),
        last_line: lines(place.bytes.end),
        page: places.iter().find_map(|place| match place {
            asterism_documents::Place::Page(number) => Some(*number),
            _ => None,
        }),
        cite: read.cite(place.bytes.clone()),
    }
}

/// Sources shown at most: the others are noise.
const MOST_SOURCES: usize = 5;

/// The blocks that a question looked at because of what it asks, most of all first.
pub(crate) fn source_infos(
    context: &Context,
    sources: &[Source],
) -> Result<Vec<SourceInfo>, EngineError> {
    let most = sources.first().map_or(0.0, |source| source.best_share);
    let stands_out = |source: &&Source| source.best_share > 0.0 && source.best_share >= most / 10.0;
    let wanted = sources.iter().filter(stands_out).take(MOST_SOURCES);
    let info = |source: &Source| {
        let (passage, places) = block_text(context, source.best)?;
        let block = index_of(context.plan(), source.span.start);
        let Source { share, best_share, .. } = *source;
        Ok(SourceInfo { block, share, best_share, passage, places })
    };
    wanted.map(info).collect()
}
