//! Asks many questions of one text, one after the other and all together, and compares the time.
//!
//! `cargo run --release -p asterism --example many_questions`

use asterism::engine::{Context, Engine, EngineError};
use std::time::Instant;

const CITIES: [&str; 8] =
    ["Lisbon", "Madrid", "Vienna", "Prague", "Warsaw", "Dublin", "Athens", "Zurich"];

fn main() -> Result<(), EngineError> {
    // A code for each city, with prose between them.
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(12);
    let codes: Vec<usize> = (0..CITIES.len()).map(|i| 48_213 + 5_077 * i).collect();
    let facts = CITIES.iter().zip(&codes);
    let text: String = facts
        .map(|(city, code)| format!("{prose}The access code for the {city} vault is {code}. "))
        .collect();
    let questions = CITIES.map(|city| format!("What is the access code for the {city} vault?"));

    let engine = Engine::open("nano")?;
    let book = engine.context(&text).star(1024).encode()?;
    println!("{} tokens, {} questions", book.tokens().len(), questions.len());

    let began = Instant::now();
    let alone = one_by_one(&book, &questions)?;
    println!("one after the other: {:.2?}", began.elapsed());

    let began = Instant::now();
    let together = book.ask_many(&questions)?.into_iter();
    let together = together.map(|answer| Ok(answer.finish()?.text));
    let together = together.collect::<Result<Vec<_>, EngineError>>()?;
    println!("all together:        {:.2?}", began.elapsed());
    assert_eq!(alone, together, "an answer never depends on who else asks");

    for ((city, code), answer) in CITIES.iter().zip(&codes).zip(together) {
        let verdict = if answer.contains(&code.to_string()) { "found" } else { "missed" };
        println!("{city}: {answer} ({verdict})");
    }
    Ok(())
}

fn one_by_one(book: &Context, questions: &[String]) -> Result<Vec<String>, EngineError> {
    questions.iter().map(|question| Ok(book.ask(question)?.finish()?.text)).collect()
}
