//! Four ways to stop: encoding by its progress, an answer where it is, an answer that nobody
//! reads on, and everything that looks at a flag of another thread.
//!
//! `cargo run --release -p asterism --example stream_and_cancel`

use asterism::cancel::Cancel;
use asterism::engine::{Ask, Engine, EngineError, Generation};
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

const QUESTION: &str = "What is the access code for the Lisbon vault?";

fn main() -> Result<(), EngineError> {
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(100);
    let text = format!("{prose}The access code for the Lisbon vault is 48213. {prose}");
    let engine = Engine::open("nano")?;

    // Half of the text is enough to see.
    let half = |share| {
        if share < 0.5 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    match engine.context(&text).star(512).on_progress(half).encode() {
        Err(error) if error.code() == "cancelled" => println!("encoding: {error} half-way"),
        Err(error) => return Err(error),
        Ok(_) => println!("encoding: done before it could be stopped"),
    }
    // Blocks that were finished are not encoded again.
    let book = engine.context(&text).star(512).encode()?;
    let reused = book.phase1().reused.len();
    println!("encoding: {reused} of {} blocks were there", book.plan().blocks());

    // An answer that would go on and on is stopped at ten characters, and kept.
    let endless = Generation { max_tokens: 4000, ignore_eos: true, ..Generation::default() };
    let endless = Ask::new(QUESTION).generation(endless);
    let mut answer = book.ask(&endless)?;
    while answer.text().len() < 10 {
        if answer.next().transpose()?.is_none() {
            break;
        }
    }
    answer.stop();
    let kept = answer.finish()?;
    println!("stopped: {:?}, {} tokens", kept.text, kept.generated.tokens.len());

    // The loop ends, the answer is dropped, and its question is cancelled.
    for piece in book.ask(&endless)?.take(3) {
        println!("piece: {:?}", piece?);
    }

    // A flag, raised on another thread.
    let cancel = Cancel::new();
    let answer = book.ask(endless.cancel(&cancel))?;
    let watch = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        cancel.raise();
    });
    println!("flag: {}", answer.finish().map_or_else(|error| error.to_string(), |a| a.text));
    let _ = watch.join();
    Ok(())
}
