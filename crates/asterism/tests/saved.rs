//! Contexts on disk: what comes back is what was written, or an error that says what is wrong.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{
    Ask, Context, Engine, EngineError, EngineOptions, Generation, Origin, Prepared, Progress,
    Source,
};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::{AnchorKv, Method, Star};
use asterism::saved::SavedError;
use asterism::tensor::KvPrecision;
use common::{HOSTS, methods};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// nano, which keeps no block that no context holds.
fn nano(kv_precision: Option<KvPrecision>) -> Arc<Engine> {
    let files = ModelSource::Nano.resolve(&FetchOptions::default()).unwrap();
    let options = EngineOptions { cache_bytes: 0, kv_precision, ..EngineOptions::default() };
    Arc::new(Engine::load(files, &options).unwrap())
}

fn documents() -> [(&'static str, String); 3] {
    let sea = "The sea is calm tonight, and the tide is full. ".repeat(30);
    let note = "The access code for the Lisbon vault is 48213. ".repeat(12);
    [("sea", sea.clone()), ("note", note), ("sea again", sea.replace("sea", "lake"))]
}

fn encode(engine: &Arc<Engine>, method: Method, hosts: usize) -> Context {
    let documents = documents();
    let named = documents.each_ref().map(|(name, text)| (*name, text.as_str()));
    let mut builder = engine.documents(&named).method(method).hosts(hosts);
    if matches!(method, Method::Star(star) if star.anchor_policy.is_paper()) {
        builder = builder.slack(16).own_blocks();
    }
    builder.encode().unwrap()
}

/// All logits behind a question, and an answer.
fn answer(context: &Context) -> (Vec<(u32, f32)>, Vec<u32>) {
    let frame = context.frame().unwrap();
    let question = "What is the access code for the Lisbon vault?";
    let query = frame.query_tokens(context.engine().tokenizer(), question).unwrap();
    let settings = Generation { max_tokens: 8, top_logits: usize::MAX, ..Generation::default() };
    let mut go_on = |_| ControlFlow::Continue(());
    let answer = context.generate(&query, &settings, &mut go_on, &Cancel::new()).unwrap();
    (answer.top_logits, answer.tokens)
}

/// Where a question looks.
fn sources(context: &Context) -> Vec<Source> {
    let ask = Ask::new("What is the access code for the Lisbon vault?").sources();
    context.ask(ask).unwrap().finish().unwrap().sources().to_vec()
}

fn find(engine: &Arc<Engine>, folder: &Path) -> Result<Prepared, EngineError> {
    engine.saved(folder, &Cancel::new())
}

fn load(engine: &Arc<Engine>, folder: &Path) -> Result<Context, EngineError> {
    find(engine, folder)?.encode(&|_| (), &Cancel::new())
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_saved_context_answers_as_before_on_another_engine() {
    let (engine, other) = (nano(None), nano(None));
    let star = Star::new(256).anchor(64);
    let recomputed: Method = star.anchor_kv(AnchorKv::Recompute).into();
    for method in methods(star).into_iter().chain([recomputed]) {
        for hosts in HOSTS {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().join("a/context");
            let context = encode(&engine, method, hosts);
            context.save(&folder, &Cancel::new()).unwrap();
            let mut names: BTreeSet<_> =
                (0..hosts).map(|host| format!("host-{host}.safetensors")).collect();
            names.insert("context.json".to_owned());
            assert_eq!(names_in(&folder), names);

            let prepared = find(&other, &folder).unwrap();
            let saved = prepared.saved().unwrap();
            assert_eq!(saved.kv_bytes, context.phase1().kv_bytes);
            assert_eq!(saved.encode_time, context.phase1().time);
            assert_eq!(prepared.plan(), context.plan());
            let work = AtomicU64::new(0);
            let progress = |step: Progress| {
                assert_eq!(step.origin, Origin::Loaded, "{method:?}, {hosts} hosts");
                work.fetch_add(step.work, Ordering::Relaxed);
            };
            let again = prepared.encode(&progress, &Cancel::new()).unwrap();
            let phase1 = again.phase1();
            assert!(phase1.is_loaded && phase1.reused.is_empty());
            assert_eq!(
                work.into_inner(),
                asterism::engine::Phase1::work(again.plan(), other.config().layers)
            );
            assert_eq!(again.documents(), context.documents());
            // To the last bit, and not because every answer is alike.
            let expected = answer(&context);
            assert!(answer(&again) == expected, "{method:?}, {hosts} hosts");
            assert!(!expected.1.is_empty());
        }
    }
}

#[test]
fn a_loaded_context_is_edited_as_the_one_that_was_saved() {
    let (engine, other) = (nano(None), nano(None));
    let context = encode(&engine, Star::new(256).anchor(64).into(), 2);
    let folder = tempfile::tempdir().unwrap();
    context.save(folder.path(), &Cancel::new()).unwrap();
    let again = load(&other, folder.path()).unwrap();
    let [sea, note, _] = documents();
    let changed = sea.1.replace("tide", "moon");
    let edited = [("sea", sea.1.as_str()), ("note", note.1.as_str()), ("last", changed.as_str())];
    let [expected, found] =
        [&context, &again].map(|context| context.edit_documents(&edited).unwrap());
    assert_eq!(found.phase1().reused, expected.phase1().reused);
    assert!(!found.phase1().reused.is_empty() && !found.phase1().is_loaded);
    assert!(answer(&found) == answer(&expected));
    // An edited plan is one that can be saved, and it takes the place of what was there.
    found.save(folder.path(), &Cancel::new()).unwrap();
    let last = load(&engine, folder.path()).unwrap();
    assert_eq!(last.plan(), expected.plan());
    assert!(answer(&last) == answer(&expected));
}

#[test]
fn a_text_is_saved_like_documents_and_tokens_are_not() {
    let engine = nano(None);
    let [_, (_, note), _] = documents();
    let context = engine.context(&note).star(64).encode().unwrap();
    let folder = tempfile::tempdir().unwrap();
    context.save(folder.path(), &Cancel::new()).unwrap();
    let again = load(&engine, folder.path()).unwrap();
    assert!(answer(&again) == answer(&context));
    assert!(again.documents().is_empty());
    let bare = Context::encode(
        Arc::clone(&engine),
        context.tokens().to_vec(),
        context.plan().spec,
        context.room(),
        &|_| (),
        &Cancel::new(),
    );
    let error = bare.unwrap().save(folder.path(), &Cancel::new()).unwrap_err();
    assert_eq!(error.code(), "no_frame");
}

#[test]
fn questions_are_answered_while_a_context_is_written_and_writing_can_be_given_up() {
    let engine = nano(None);
    let context = encode(&engine, Star::new(64).anchor(16).into(), 3);
    let expected = answer(&context);
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| context.save(folder.path(), &Cancel::new()));
        for _ in 0..3 {
            assert!(answer(&context) == expected);
        }
        saving.join().unwrap().unwrap();
    });
    assert!(answer(&load(&engine, folder.path()).unwrap()) == expected);
    cancel.raise();
    let given_up = context.save(folder.path(), &cancel).unwrap_err();
    assert!(matches!(given_up, EngineError::Cancelled), "{given_up}");
    let error = load(&engine, folder.path()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "saved_not_found");
    // It can be written again.
    context.save(folder.path(), &Cancel::new()).unwrap();
    assert!(answer(&load(&engine, folder.path()).unwrap()) == expected);
}

#[test]
fn what_cannot_be_used_is_refused_and_the_context_encoded_anew() {
    let engine = nano(None);
    let context = encode(&engine, Star::new(256).anchor(64).into(), 2);
    let expected = answer(&context);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    context.save(folder, &Cancel::new()).unwrap();
    drop(context);
    let error = |engine: &Arc<Engine>| load(engine, folder).map(|_| ()).unwrap_err();

    let in_f32 = error(&nano(Some(KvPrecision::F32)));
    assert_eq!(in_f32.code(), "saved_elsewhere");
    assert!(in_f32.to_string().contains("keys in bf16, and this is f32"), "{in_f32}");

    // The last host's last byte.
    let keys = folder.join("host-1.safetensors");
    let whole = std::fs::read(&keys).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&keys, &bytes).unwrap();
    assert_eq!(error(&engine).code(), "saved_damaged");
    // Files of one host in the place of another's.
    std::fs::copy(folder.join("host-0.safetensors"), &keys).unwrap();
    assert_eq!(error(&engine).code(), "saved_damaged");
    std::fs::remove_file(&keys).unwrap();
    assert_eq!(error(&engine).code(), "saved_io");
    // It is still known what it was made of.
    let anew = find(&engine, folder).unwrap().anew();
    let anew = anew.encode(&|_| (), &Cancel::new()).unwrap();
    assert!(answer(&anew) == expected && !anew.phase1().is_loaded);
    std::fs::write(&keys, &whole).unwrap();
    assert!(answer(&load(&engine, folder).unwrap()) == expected);

    // Another text under the same keys.
    let manifest = folder.join("context.json");
    let json = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, json.replace("48213", "48214")).unwrap();
    let other = error(&engine);
    assert!(other.to_string().contains("other tokens than its keys"), "{other}");
    std::fs::write(&manifest, &json[..json.len() / 2]).unwrap();
    assert_eq!(error(&engine).code(), "saved_damaged");
    // Folders in the place of files.
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    assert!(matches!(error(&engine), EngineError::Saved(SavedError::Io { .. })));
    let refused = anew.save(folder, &Cancel::new()).unwrap_err();
    assert_eq!(refused.code(), "saved_io");
}

#[test]
fn loading_can_be_cancelled_and_joined() {
    let engine = nano(None);
    let context = encode(&engine, Star::new(64).anchor(16).into(), 2);
    let (expected, expected_sources) = (answer(&context), sources(&context));
    let folder = tempfile::tempdir().unwrap();
    context.save(folder.path(), &Cancel::new()).unwrap();
    drop(context);
    let cancel = Cancel::new();
    let stop = |_: Progress| cancel.raise();
    let cancelled = find(&engine, folder.path()).unwrap().encode(&stop, &cancel);
    assert!(matches!(cancelled.err(), Some(EngineError::Cancelled)));
    let [one, two] = std::thread::scope(|scope| {
        [(); 2]
            .map(|()| scope.spawn(|| load(&engine, folder.path()).unwrap()))
            .map(|thread| thread.join().unwrap())
    });
    assert!(answer(&one) == expected && answer(&two) == expected);
    assert!(sources(&one) == expected_sources && !expected_sources.is_empty());
}
