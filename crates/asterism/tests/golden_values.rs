//! Logits and greedy tokens against Hugging Face Transformers (values made by
//! `tests/golden/make_goldens.py`).

mod common;

use asterism::model::ModelSource;
use asterism::plan::PlanSpec;
use asterism::tensor::Precision;
use common::{FAMILIES, Golden, max_difference, run, tiny};

/// Checks rows of golden logits: the logits after tokens `0..=row`.
fn check(name: &str, engine: &std::sync::Arc<asterism::engine::Engine>, rows: &[usize]) {
    let golden = Golden::open(name);
    let (ids, logits, greedy) =
        (golden.ints("input_ids"), golden.floats("logits"), golden.ints("greedy"));
    let vocab = engine.config().vocab;
    let dense = PlanSpec::dense();
    for (i, row) in rows.iter().enumerate().filter(|(_, row)| **row > 0) {
        let (found, _) = run(engine, &ids[..*row], &ids[*row..=*row], dense, 1);
        let difference = max_difference(&found, &logits[i * vocab..][..vocab]);
        assert!(difference < 2e-3, "{name}, row {row}: logits differ by {difference}");
    }
    let (context, query) = ids.split_at(ids.len() - 7);
    let (_, tokens) = run(engine, context, query, dense, greedy.len());
    assert_eq!(tokens, greedy, "{name}: greedy tokens");
}

#[test]
fn tiny_checkpoints_of_every_family_match_transformers() {
    for family in FAMILIES {
        let rows: Vec<usize> = (0..Golden::open(family).ints("input_ids").len()).collect();
        check(family, &tiny(family), &rows);
    }
}

#[test]
fn nano_matches_transformers_at_2k_tokens() {
    let engine = common::engine(&ModelSource::Nano, Precision::F32);
    let rows: Vec<usize> =
        Golden::open("nano").ints("rows").into_iter().map(|row| row as usize).collect();
    check("nano", &engine, &rows);
}
