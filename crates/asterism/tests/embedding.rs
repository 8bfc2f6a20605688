//! The face for those who embed the engine: contexts from text, answers read piece by piece.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{
    Ask, Change, Context, Engine, EngineError, Finish, Generation, Room, TextOptions,
};
use asterism::plan::{Method, PlanError, PlanSpec};
use asterism::text::TextError;
use common::{tiny, tokens};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

static NANO: LazyLock<Arc<Engine>> = LazyLock::new(|| Engine::open("nano").unwrap());

const PROSE: &str = "The grass is green. The sky is blue. The sun is yellow. Here we go. ";
const LISBON: &str = "What is the access code for the Lisbon vault?";

/// A text of about 600 tokens with two facts.
fn text() -> String {
    let prose = PROSE.repeat(16);
    format!(
        "{prose}The access code for the Lisbon vault is 48213. {prose}The access code for the \
         Madrid vault is 90577. {}",
        PROSE.repeat(4)
    )
}

fn note() -> Context {
    NANO.context(&text()).star(256).encode().unwrap()
}

/// A question whose answer has `tokens` tokens, whatever the model says.
fn long(tokens: usize) -> Ask {
    let generation = Generation { max_tokens: tokens, ignore_eos: true, ..Generation::default() };
    Ask::new(LISBON).generation(generation)
}

#[test]
fn pieces_put_together_are_the_answer_that_the_context_gives_to_tokens() {
    let (note, prompt) =
        (note(), NANO.frame(None).unwrap().prompt(NANO.tokenizer(), &text(), LISBON));
    let prompt = prompt.unwrap();
    assert_eq!(note.tokens(), prompt.context);
    let mut spoken = String::new();
    let mut on_text = |piece: &str| {
        spoken.push_str(piece);
        ControlFlow::Continue(())
    };
    let (settings, options) = (Generation::default(), TextOptions::default());
    let expected =
        note.answer(&prompt.query, &settings, &options, &mut on_text, &Cancel::new()).unwrap();
    let pieces: Vec<String> = note.ask(LISBON).unwrap().map(Result::unwrap).collect();
    assert!(pieces.len() > 2 && pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
    assert_eq!((pieces.concat(), &spoken), (expected.text.clone(), &expected.text));
    assert!(expected.text.contains("48213"), "{}", expected.text);
    // Read to the end, in part or not at all: the whole answer is the same.
    for read in [0, 2, usize::MAX] {
        let mut answer = note.ask(LISBON).unwrap();
        let begun: String = answer.by_ref().take(read).map(Result::unwrap).collect();
        assert_eq!(answer.text(), begun);
        let answer = answer.finish().unwrap();
        assert_eq!((&answer.text, answer.generated.finish), (&expected.text, Finish::Eos));
        assert_eq!(answer.generated.tokens, expected.generated.tokens);
    }
}

#[test]
fn an_answer_ends_before_a_stop_string_and_where_it_is_stopped() {
    let note = note();
    let whole = note.ask(LISBON).unwrap().finish().unwrap().text;
    let (before, _) = whole.split_once("82").unwrap();
    let answer = note.ask(Ask::new(LISBON).stop("never").stop("82")).unwrap();
    let answer = answer.finish().unwrap();
    assert_eq!((answer.text.as_str(), answer.generated.finish), (before, Finish::Stop));

    let mut answer = note.ask(long(2000)).unwrap();
    let first = answer.next().unwrap().unwrap();
    answer.stop();
    assert!(answer.next().is_none());
    let answer = answer.finish().unwrap();
    assert_eq!((answer.text, answer.generated.finish), (first, Finish::Stop));
}

#[test]
fn settings_of_a_question_reach_its_answer() {
    let note = note();
    let finish = |ask: Ask| note.ask(ask).unwrap().finish().unwrap();
    let short = finish(Ask::new(LISBON).max_tokens(2));
    assert_eq!((short.generated.tokens.len(), short.generated.finish), (2, Finish::Length));
    let by_chance = |seed| finish(Ask::new(LISBON).temperature(5.0).seed(seed)).generated.tokens;
    assert_eq!(by_chance(1), by_chance(1));
    assert_ne!(by_chance(1), by_chance(2));
}

#[test]
fn dropping_an_answer_cancels_its_question_alone() {
    let note = note();
    let mine = Cancel::new();
    let mut others = note.ask_many([LISBON]).unwrap();
    let began = Instant::now();
    for read in [0, 0, 1, 2, 5] {
        let mut answer = note.ask(long(120_000).cancel(&mine)).unwrap();
        answer.by_ref().take(read).for_each(|piece| drop(piece.unwrap()));
    }
    assert!(others.pop().unwrap().finish().unwrap().text.contains("48213"));
    // Nobody waits for the 600,000 tokens of the others: that would take many minutes.
    note.ask(long(400)).unwrap().finish().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(!mine.is_raised());
}

#[test]
fn an_error_comes_once_and_finishing_repeats_its_code() {
    let (note, cancel) = (note(), Cancel::new());
    let mut answer = note.ask(long(120_000).cancel(&cancel)).unwrap();
    assert!(answer.next().unwrap().is_ok());
    cancel.raise();
    let error = answer.find_map(Result::err).unwrap();
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    assert!(answer.next().is_none());
    let error = answer.finish().err().unwrap();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("cancelled", "the answer has failed: cancelled")
    );
    // Unread, the error itself.
    let answer = note.ask(long(120_000).cancel(&cancel)).unwrap();
    assert!(matches!(answer.finish().err().unwrap(), EngineError::Cancelled));
}

#[test]
fn what_cannot_be_answered_is_refused_at_once() {
    let note = note();
    let error = |ask: Ask| note.ask(ask).err().unwrap().code();
    assert_eq!(error(Ask::new(" ")), "empty_question");
    assert_eq!(error(Ask::new(LISBON).stop("")), "empty_stop");
    assert_eq!(error(Ask::new(LISBON).temperature(-1.0)), "bad_sampling");
    assert_eq!(error(Ask::new(LISBON).max_tokens(1 << 20)), "too_long");
    assert_eq!(note.ask_many([LISBON, ""]).err().unwrap().code(), "empty_question");

    let spec = PlanSpec::dense();
    let engine = tiny("llama3");
    let tokens = tokens(40, 1);
    let context =
        Context::encode(engine, tokens, spec, Room::default(), &|_| (), &Cancel::new()).unwrap();
    assert!(matches!(context.ask("What?").err().unwrap(), EngineError::NoFrame));
    assert!(matches!(context.edit("What?").err().unwrap(), EngineError::NoFrame));
}

#[test]
fn questions_asked_together_are_answered_as_alone() {
    let note = note();
    let madrid = "What is the access code for the Madrid vault?".to_owned();
    let asks = [Ask::from(&madrid), Ask::from(LISBON), Ask::new(LISBON).max_tokens(3)];
    let alone: Vec<String> =
        asks.iter().map(|ask| note.ask(ask).unwrap().finish().unwrap().text).collect();
    assert!(alone[0].contains("90577") && alone[1].contains("48213"), "{alone:?}");
    // The last is read first.
    let together = note.ask_many(&asks).unwrap().into_iter().rev();
    let together: Vec<String> = together.map(|answer| answer.finish().unwrap().text).collect();
    assert!(together.iter().eq(alone.iter().rev()), "{together:?}");
}

#[test]
fn an_answer_can_be_read_on_another_thread_when_its_context_is_gone() {
    let answer = note().ask(LISBON).unwrap();
    let text = std::thread::spawn(move || answer.finish().unwrap().text).join().unwrap();
    assert!(text.contains("48213"), "{text}");
}

#[test]
fn a_builder_plans_what_it_was_told() {
    let short = PROSE.repeat(4);
    let context = NANO.context(&short).encode().unwrap();
    assert_eq!((context.plan().blocks(), context.plan().spec.hosts), (1, 1));
    assert_eq!(context.room(), Room { question: 256, answer: 128 });
    let context = NANO.context(&short).room(9, 4).dense().star(16).anchor(8).hosts(2).encode();
    let context = context.unwrap();
    assert_eq!(context.plan().spec, PlanSpec::star(16).anchor(8).hosts(2));
    assert_eq!(context.room(), Room { question: 9, answer: 4 });
    let method = NANO.context(&short).star(16).ring().encode().unwrap().plan().spec.method;
    assert_eq!(method, Method::Ring);

    let error = |context: Result<Context, EngineError>| context.err().unwrap();
    let blank = error(NANO.context(" ").encode());
    assert!(matches!(blank, EngineError::Text(TextError::EmptyContext)), "{blank}");
    let anchor = error(NANO.context(&short).star(16).anchor(32).encode());
    assert_eq!(anchor.code(), "bad_plan");
    let spaced = error(NANO.context(&short).dense().slack(4).encode());
    assert!(matches!(spaced, EngineError::Plan(PlanError::NotSpaced)), "{spaced}");
    let room = error(NANO.context(&short).room(1, 1 << 20).encode());
    assert_eq!(room.code(), "too_long");
}

#[test]
fn encoding_tells_how_far_it_is_and_stops_when_told() {
    let (text, cancel) = (text() + "This text is encoded nowhere else.", Cancel::new());
    let mut shares = vec![0.0];
    let mut stopped = NANO.context(&text).star(64).cancel(&cancel);
    stopped = stopped.on_progress(|share| {
        shares.push(share);
        if share > 0.3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped.encode().err().unwrap(), EngineError::Cancelled));
    assert!(shares.is_sorted() && shares.len() > 2 && shares[shares.len() - 1] < 1.0);
    assert!(!cancel.is_raised(), "the flag is the caller's");
    let mut last = 0.0;
    let watched = NANO.context(&text).star(64).cancel(&cancel).on_progress(|share| {
        last = share;
        ControlFlow::Continue(())
    });
    watched.encode().unwrap();
    assert_eq!(last, 1.0);
    cancel.raise();
    let cancelled = NANO.context(&text).cancel(&cancel).encode();
    assert!(matches!(cancelled.err().unwrap(), EngineError::Cancelled));
}

#[test]
fn an_edit_of_words_encodes_one_block_and_answers_by_the_new_ones() {
    let before = NANO.context(&text()).star(128).slack(16).encode().unwrap();
    let longer = "Last night it was changed: the access code for the Madrid vault is 31416.";
    let changed = text().replace("The access code for the Madrid vault is 90577.", longer);
    let after = before.edit(&changed).unwrap();
    let edited = after.changes_from(&before);
    let edited: Vec<_> =
        edited.iter().filter(|(_, change)| *change != Change::Reused).map(|(_, c)| c).collect();
    assert_eq!(edited, [&Change::Edited]);
    assert_eq!(after.room(), before.room());
    let madrid = "What is the access code for the Madrid vault?";
    for (context, code) in [(&after, "31416"), (&before, "90577")] {
        let answer = context.ask(madrid).unwrap().finish().unwrap().text;
        assert!(answer.contains(code), "{answer}");
    }
}
