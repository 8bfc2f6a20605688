//! What rounding to bf16 costs: logits of nano, by every instruction set this machine has, against
//! those in f32.

mod common;

use asterism::engine::{Engine, EngineOptions};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::PlanSpec;
use asterism::tensor::{Isa, Precision};
use asterism::text::Special;
use common::{relative_error, run};
use std::sync::Arc;

fn engine(isa: Isa, precision: Precision) -> Arc<Engine> {
    let files = ModelSource::Nano.resolve(&FetchOptions::default()).expect("model files");
    let options = EngineOptions { precision, isa: Some(isa), ..EngineOptions::default() };
    Arc::new(Engine::load(files, &options).expect("model"))
}

#[test]
fn bf16_is_close_to_f32_on_every_instruction_set() {
    let exact = engine(Isa::best(), Precision::F32);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/walden.txt");
    let book = std::fs::read_to_string(path).expect("the example book");
    let start = book.char_indices().nth(200_000).expect("a long book").0;
    let text: String = book[start..].chars().take(600).collect();
    let tokens = exact.tokenizer().encode(&text, Special::AsText).expect("tokens");
    let (context, query) = tokens.split_at(tokens.len() - 9);
    let block = PlanSpec::star(64).anchor(32).hosts(2);
    let (expected, _) = run(&exact, context, query, block, 1);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let (found, _) = run(&engine(isa, Precision::Bf16), context, query, block, 1);
        let error = relative_error(&found, &expected);
        assert!(error < 2e-2, "{isa}: relative error {error}");
        let (found, _) = run(&engine(isa, Precision::F32), context, query, block, 1);
        let error = relative_error(&found, &expected);
        assert!(error < 1e-4, "{isa} in f32: relative error {error}");
    }
}
