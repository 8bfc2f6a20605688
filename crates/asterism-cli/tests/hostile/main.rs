//! Hostile and careless input, by class: nothing is lost, nothing hangs, nothing is believed that
//! is not so.
//!
//! The generated cases run the binary on files, streams and arguments that are wrong. A few hundred
//! of them run with the other tests. `HOSTILE_CASES` says how many, `HOSTILE_SEED` which ones, and
//! `HOSTILE_BINARY` against which build: see docs/input.md.

#![cfg(target_os = "linux")] // devices, pipes, memory of processes

#[path = "../common/binary.rs"]
#[allow(dead_code)]
mod binary;

mod batch;
mod case;
mod data_files;
mod model_files;
mod mutate;
mod terminal;

use mutate::Dice;

/// A number from the environment.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn generated_cases_end_in_time_with_words_and_without_lies() {
    let (all, seed) = (setting("HOSTILE_CASES", 260), setting("HOSTILE_SEED", 1));
    let dice = &mut Dice::new(seed as u64);
    let share = |percent: usize| all * percent / 100;
    let mut cases = model_files::no_files();
    cases.extend(data_files::places());
    cases.extend(data_files::streams());
    cases.extend(data_files::documents());
    cases.extend(model_files::configs(dice, share(16)));
    cases.extend(model_files::small_files(dice, share(8)));
    cases.extend(model_files::weights(dice, share(12)));
    cases.extend(model_files::tokenizers(dice, share(20)));
    cases.extend(model_files::templates(dice, share(20)));
    cases.extend(data_files::prompts(dice, share(6)));
    cases.extend(data_files::results(dice, share(6)));
    cases.extend(data_files::tables(dice, share(8)));
    cases.extend(data_files::arguments(dice, share(4)));
    let faults = case::run_all(&cases);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
