//! Encodes a book once and prints an answer as it comes.
//!
//! `cargo run --release -p asterism --example ask -- [QUESTION] [FILE]`

use asterism::engine::{Ask, Engine};
use std::error::Error;
use std::io::Write;

/// Characters of the book that are read where no file is given: about 16,000 tokens.
const LENGTH: usize = 56_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let question = "What is the access code for the Lisbon vault?".to_owned();
    let question = arguments.next().unwrap_or(question);
    let text = match arguments.next() {
        Some(path) => std::fs::read_to_string(path)?,
        None => include_str!("../../../examples/walden.txt").chars().take(LENGTH).collect(),
    };

    let engine = Engine::open("nano")?;
    let book = engine.context(&text).star(4096).anchor(1024).encode()?;
    println!(
        "{} tokens in {} blocks, encoded in {:.2?}",
        book.tokens().len(),
        book.plan().blocks(),
        book.phase1().time
    );

    println!("{question}");
    let mut answer = book.ask(Ask::new(question).max_tokens(64))?;
    for piece in &mut answer {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    let cost = answer.finish()?.generated;
    println!();
    println!(
        "{} tokens, the first after {:.2?}, ended by {}",
        cost.tokens.len(),
        cost.query_time,
        cost.finish.name()
    );
    Ok(())
}
