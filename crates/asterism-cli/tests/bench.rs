//! `asterism bench`, driven as a user drives it.

#[path = "common/binary.rs"]
mod binary;

use assert_cmd::Command;
use binary::{asterism, fail, succeed};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

fn bench(line: &str) -> Command {
    let mut command = asterism();
    command.arg("bench").args(line.split_whitespace());
    command
}

fn read(json: &Path) -> Value {
    let text = std::fs::read_to_string(json).expect("JSON file");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn every_case_is_measured_and_reported_three_ways() {
    let dir = TempDir::new().expect("dir");
    let (json, plot) = (dir.path().join("b.json"), dir.path().join("b.svg"));
    let mut command = bench(
        "--lengths 256,512 --methods star:block=1/4,dense,zigzag --hosts 1,2 --runs 2 --decode-tokens 3",
    );
    let (out, _) = succeed(command.arg("--json").arg(&json).arg("--plot").arg(&plot));
    for word in ["star:block=1/4", "dense", "zigzag", "512", "tokens/s", "peak", "GB/s", "1.00x"] {
        assert!(out.contains(word), "{word}: {out}");
    }

    let report = read(&json);
    assert!(report["machine"]["peak_flop_per_s"].as_f64().expect("peak") > 1e6);
    assert!(report["machine"]["computing_on"].is_string());
    assert_eq!(report["model"]["name"], "nano");
    assert_eq!(report["model"]["precision"], "bf16");
    assert_eq!(report["settings"]["baseline"], "dense");
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 2 * 2 * 3);
    for case in cases {
        let number = |name: &str| case[name].as_f64().expect("number");
        let runs = |name: &str| case[name]["runs"].as_array().expect("runs").len();
        assert_eq!((runs("prefill_s"), runs("decode_s")), (2, 2), "{case}");
        let seconds = case["prefill_s"]["median"].as_f64().expect("median");
        assert!((number("flop") / number("flop_per_s") / seconds - 1.0).abs() < 1e-9);
        assert!(number("share_of_peak_flop") > 0.0 && number("share_of_peak_bytes") > 0.0);
        // 4 KiB of keys and values per token: the context's are read in every step.
        assert_eq!(number("kv_bytes"), 4096.0 * number("tokens"));
        assert!(number("bytes_read_per_token") > number("kv_bytes"));
        assert_eq!(case["method"] == "dense", number("speedup") == 1.0, "{case}");
    }
    assert_eq!(cases[0]["plan"]["block"], 64);

    let svg = std::fs::read_to_string(&plot).expect("SVG file");
    assert!(svg.starts_with("<svg"));
    for name in ["star:block=1/4, 1 host", "zigzag, 2 hosts", "speed-up over dense"] {
        assert!(svg.contains(name), "{name}");
    }
}

#[test]
fn phase_1_may_be_measured_alone() {
    let (out, _) = succeed(&mut bench("--lengths 256 --methods ring --runs 1 --decode-tokens 0"));
    assert!(out.contains("phase 1") && !out.contains("phase 2"), "{out}");
}

#[test]
fn questions_asked_at_once_are_an_axis_of_decoding() {
    let dir = TempDir::new().expect("dir");
    let (json, plot) = (dir.path().join("b.json"), dir.path().join("b.svg"));
    let mut command = bench(
        "--lengths 256 --methods dense --runs 1 --sequences 1,3 --query-tokens 5 --decode-tokens 4",
    );
    let (out, _) = succeed(command.arg("--json").arg(&json).arg("--plot").arg(&plot));
    for word in ["sequences", "of each", "over one", "1.00x", "read per step"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let report = read(&json);
    let case = &report["cases"][0];
    let both = case["sequences"].as_array().expect("sequences");
    let counts: Vec<_> = both.iter().map(|one| one["sequences"].as_u64()).collect();
    assert_eq!(counts, [Some(1), Some(3)]);
    let rate = |one: &Value| one["decode_tokens_per_s"]["median"].as_f64().expect("rate");
    let ratio = both[1]["over_one"].as_f64().expect("ratio");
    assert!((rate(&both[1]) / rate(&both[0]) / ratio - 1.0).abs() < 1e-9, "{case}");
    // One sequence stands where it stands without others.
    assert_eq!(case["decode_tokens_per_s"], both[0]["decode_tokens_per_s"]);
    let svg = std::fs::read_to_string(&plot).expect("SVG file");
    assert!(svg.contains("questions asked at once"), "{svg}");
}

#[test]
fn the_first_token_is_timed_alone_and_while_a_context_is_encoded() {
    let dir = TempDir::new().expect("dir");
    let json = dir.path().join("b.json");
    let mut command =
        bench("--latency --lengths 256,16k --methods star:block=2k --query-tokens 9 --runs 2");
    let (out, _) = succeed(command.arg("--json").arg(&json));
    for word in ["alone", "during", "slice", "p95", "star:block=2k"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let latency = &read(&json)["latency"][0];
    assert_eq!(latency["beside_tokens"], 16_384);
    for name in ["alone_s", "during_s", "slice_s", "more_slices"] {
        assert_eq!(latency[name]["runs"].as_array().map(Vec::len), Some(2), "{name}: {latency}");
    }
}

#[test]
fn random_weights_are_measured_and_written_as_a_model() {
    let dir = TempDir::new().expect("dir");
    let model = dir.path().join("small");
    let shape = "--shape small --layers 1 --seed 3";
    let (out, _) = succeed(bench(shape).arg("--write-model").arg(&model));
    assert!(out.is_empty(), "{out}");
    let again = fail(bench(shape).arg("--write-model").arg(&model), 2);
    assert!(again.contains("not empty"), "{again}");
    let settings = "--lengths 256 --methods dense --runs 1 --decode-tokens 2";
    let (from_folder, _) = succeed(bench(settings).arg("--model").arg(&model));
    let (from_shape, _) = succeed(&mut bench(&format!("{settings} {shape}")));
    // The second line of the heading says how many bytes the matrices take.
    let size = |out: &str| out.lines().nth(1).map(str::to_owned);
    assert_eq!(size(&from_folder), size(&from_shape));
    assert!(from_shape.contains("random weights (seed 3)"), "{from_shape}");
}

#[test]
fn wrong_arguments_are_named_before_any_work() {
    for (line, expected) in [
        ("--methods sparse", "sparse"),
        ("--methods dense,star:blok=4k", "blok=4k"),
        ("--methods dense,dense", "given twice"),
        ("--methods star:block=8", "block of 8"),
        ("--methods star:block=1k:anchor=2k", "2048"),
        ("--lengths 4q", "4q"),
        ("--lengths 0", "empty"),
        ("--lengths 128k", "131106"),
        ("--hosts 0", "0"),
        ("--runs 0", "0"),
        ("--sequences 33", "33"),
        ("--sequences 2,2", "given twice"),
        ("--latency --sequences 2", "--sequences"),
        ("--plot speed.png", "speed.png"),
        ("--plot speed", ".svg"),
        ("--plot no/such/folder/speed.svg", "no/such/folder"),
        ("--json no/such/folder/b.json", "no/such/folder"),
        ("--json .", "folder"),
        ("--shape llama-9b", "llama-8b"),
        ("--shape small --model nano", "--model"),
        ("--layers 4", "--shape"),
        ("--write-model x", "--shape"),
        ("--shape small --write-model x --runs 2", "--runs"),
        ("--shape small --write-model Cargo.toml", "Cargo.toml"),
        ("--shape llama-8b --layers 4096 --lengths 256", "--layers"),
        ("--cpu sse9", "sse9"),
    ] {
        let message = fail(&mut bench(line), 2);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn settings_come_from_the_environment() {
    let mut command = bench("--runs 1 --decode-tokens 2");
    command.env("ASTERISM_BENCH_LENGTHS", "256,300").env("ASTERISM_BENCH_METHODS", "ring");
    let (out, _) = succeed(&mut command);
    assert!(out.contains("ring") && out.contains("300") && !out.contains("dense"), "{out}");
}
