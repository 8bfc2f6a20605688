//! Changes one sentence of a text and encodes the block around it, not the whole text again.
//!
//! `cargo run --release -p asterism --example edit_one_part`

use asterism::engine::{Change, Context, Engine, EngineError};

const QUESTION: &str = "What is the access code for the Lisbon vault?";

fn main() -> Result<(), EngineError> {
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(90);
    let fact = "The access code for the Lisbon vault is 48213. ";
    let text = format!("{prose}{fact}{prose}");

    // Each block leaves positions for 32 more tokens, so that those behind it can stay.
    let engine = Engine::open("nano")?;
    let first = engine.context(&text).star(512).anchor(128).slack(32).encode()?;
    show("first", &first)?;

    // A longer sentence takes the place of the old one.
    let longer = "Last night it was changed: the access code for the Lisbon vault is 90577. ";
    let second = first.edit(&text.replace(fact, longer))?;
    show("longer", &second)?;
    for (block, change) in second.changes_from(&first) {
        if change != Change::Reused {
            println!("  {change:?}: {} tokens at position {}", block.len, block.start);
        }
    }

    // A change at the very beginning is one of the anchor, on which all blocks depend.
    let third = second.edit(&format!("A note. {}", text.replace(fact, longer)))?;
    show("new beginning", &third)?;

    // Contexts do not change: the first still answers as it did.
    show("first again", &first)
}

fn show(name: &str, context: &Context) -> Result<(), EngineError> {
    let (phase1, blocks) = (context.phase1(), context.plan().blocks());
    println!(
        "{name}: {} tokens, {} of {blocks} blocks reused, encoded in {:.2?}",
        context.tokens().len(),
        phase1.reused.len(),
        phase1.time
    );
    println!("  {}", context.ask(QUESTION)?.finish()?.text);
    Ok(())
}
