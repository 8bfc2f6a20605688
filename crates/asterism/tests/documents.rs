//! Contexts of several documents: each for itself, and found again from its tokens.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::engine::{Change, EngineError};
use asterism::model::ModelSource;
use asterism::plan::PlanError;
use asterism::tensor::Precision;

const SKY: &str = "The sky is blue. Here we go. There and back again. ";
const SEA: &str = "Das Meer ist grün, 東京 liegt daran. 🦀 The sea, the sea. ";
const SUN: &str = "The sun is yellow, and nobody goes there. ";

#[test]
fn blocks_hold_parts_of_one_document_and_an_edit_of_one_keeps_those_of_the_others() {
    let engine = common::engine(&ModelSource::Nano, Precision::Bf16);
    let texts = [SKY, SEA, SUN].map(|text| text.repeat(12));
    let named = ["sky", "sea", "sun"];
    let documents: Vec<_> = named.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    let begun = engine.documents(&documents).star(64).anchor(32).slack(8);
    let context = begun.own_blocks().hosts(2).encode().unwrap();

    // Every block is of one document, and the blocks give every document's text.
    let mut read = [const { String::new() }; 3];
    for span in context.plan().hosts.iter().flatten() {
        let places = context.places(context.plan().indices(*span));
        let [place] = &places[..] else { panic!("{places:?}") };
        assert_eq!(place.document.name(), named[place.number]);
        let (read, text) = (&mut read[place.number], place.document.text());
        // A character whose bytes are tokens of two blocks is in both.
        read.truncate(place.bytes.start);
        read.push_str(place.text());
        assert!(text.starts_with(read.as_str()));
    }
    assert_eq!(read, texts.clone().map(|text| text.trim_end().to_owned()));

    // One sentence of the second is another.
    let sea = texts[1].replacen("grün", "blau und grün", 1);
    let edited = [documents[0], ("sea", sea.as_str()), documents[2]];
    let after = context.edit_documents(&edited).unwrap();
    assert_eq!(after.documents()[1].text(), sea);
    let changes = after.changes_from(&context);
    let anew = changes.iter().filter(|(_, change)| *change != Change::Reused);
    let numbers: Vec<_> = anew
        .map(|(span, _)| after.places(after.plan().indices(*span)))
        .map(|places| places.iter().map(|place| place.number).collect::<Vec<_>>())
        .collect();
    assert_eq!(numbers, [[1]], "one block, of the second document");

    // One more in the middle: it gets blocks of its own, and stands among the others.
    let added = [edited[0], edited[1], ("moon", "The moon is a stone."), edited[2]];
    let added = after.edit_documents(&added).unwrap();
    for span in added.plan().hosts.iter().flatten() {
        assert_eq!(added.places(added.plan().indices(*span)).len(), 1);
    }
    let names: Vec<_> = added.documents().iter().map(|document| document.name()).collect();
    assert_eq!(names, ["sky", "sea", "moon", "sun"]);
}

#[test]
fn documents_of_one_context_have_the_tokens_that_they_have_alone() {
    let engine = common::engine(&ModelSource::Nano, Precision::Bf16);
    let tokens = |documents: &[(&str, &str)]| {
        let context = engine.documents(documents).dense().encode().unwrap();
        let own =
            |document: &asterism::text::Document| context.tokens()[document.tokens()].to_vec();
        context.documents().iter().map(own).collect::<Vec<_>>()
    };
    let together = tokens(&[("a", SKY), ("b", SEA), ("c", SUN)]);
    let alone = [SKY, SEA, SUN].map(|text| tokens(&[("alone", text)]).remove(0));
    assert_eq!(together, alone);
}

#[test]
fn what_has_no_documents_or_blocks_says_so() {
    let engine = common::engine(&ModelSource::Nano, Precision::Bf16);
    let context = engine.context(SKY).encode().unwrap();
    assert!(context.documents().is_empty() && context.places(0..3).is_empty());
    let error = context.edit_documents(&[("a", SKY)]).err().unwrap();
    assert!(matches!(error, EngineError::NoDocuments), "{error}");
    let error = engine.documents(&[("a", SKY)]).dense().own_blocks().encode().err().unwrap();
    assert!(matches!(error, EngineError::Plan(PlanError::NotSpaced)), "{error}");
    let error = engine.documents(&[("a", SKY), ("b", " ")]).encode().err().unwrap();
    assert!(error.to_string().contains("\"b\""), "{error}");
}
