//! Predictions scored by a Python transcription of the benchmarks' scripts, and by ours.
//!
//! `tests/golden/eval/scores.jsonl` holds random predictions made of telling fragments, each with
//! the score that the published functions of RULER, BABILong and InfiniteBench give it (ROUGE: the
//! `rouge_score` package). `make_scores.py` beside it is the transcription.

use asterism_eval::{Sample, TaskInfo, babilong, infinitebench, ruler};
use serde::Deserialize;

#[derive(Deserialize)]
struct Scored {
    benchmark: String,
    task: String,
    prediction: String,
    outputs: Vec<String>,
    question: String,
    score: f64,
}

#[test]
fn predictions_score_as_in_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/eval/scores.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut checked = 0;
    for line in text.lines() {
        let scored: Scored = serde_json::from_str(line).unwrap();
        let tasks: Vec<TaskInfo> = match scored.benchmark.as_str() {
            "ruler" => ruler::tasks(ruler::Variant::StarPaper),
            "babilong" => babilong::tasks(),
            _ => infinitebench::tasks(),
        };
        let task = tasks.iter().find(|task| task.name == scored.task).unwrap();
        let sample = Sample {
            index: 0,
            input_context: String::new(),
            input_query: String::new(),
            outputs: scored.outputs,
            length: 0,
            extra: [("question".to_owned(), scored.question.into())].into_iter().collect(),
        };
        let score = task.metric.score(&scored.prediction, &sample);
        assert!((score - scored.score).abs() < 1e-12, "{line}: {score}");
        checked += 1;
    }
    assert_eq!(checked, 660);
}
