//! `asterism eval`, driven as a user drives it.

#[path = "common/binary.rs"]
mod binary;

use assert_cmd::Command;
use binary::{asterism, fail, succeed};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn eval(line: &str) -> Command {
    let mut command = asterism();
    command.arg("eval").args(line.split_whitespace());
    command
}

/// One needle at 512 tokens, two samples, two methods.
fn small_run(dir: &Path) -> Command {
    let mut command = eval(
        "ruler --lengths 512 --tasks niah_single_1 --samples 2 --methods dense,star:block=1/4",
    );
    command.arg("--out").arg(dir);
    command
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("answers");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_run_is_scored_reported_resumed_and_compared() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("run");
    let (text, _) = succeed(&mut small_run(&out));
    for word in ["dense", "star:block=1/4", "512", "report.html"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let dense = out.join("512/niah_single_1/dense.jsonl");
    let answers = lines(&dense);
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert!(answer["timings"]["phase1_s"].as_f64().expect("seconds") > 0.0);
        assert!(answer["pred"].is_string() && answer["outputs"][0].is_string(), "{answer}");
        assert!(answer["extra"]["depths"][0].is_number(), "{answer}");
    }
    let info: Value = serde_json::from_str(&fs::read_to_string(out.join("run.json")).expect("run"))
        .expect("JSON");
    assert_eq!(info["settings"]["variant"], "star-paper");
    assert_eq!(info["settings"]["template"], "llama3");
    assert_eq!(info["model"]["tokenizer_hash"].as_str().expect("hash").len(), 16);
    let page = fs::read_to_string(out.join("report.html")).expect("page");
    for piece in ["<svg", "niah_single_1", "computing on", "noise"] {
        assert!(page.contains(piece), "{piece}");
    }

    // Torn in the middle of the last line, as by a stop: only that answer is given again.
    let whole = fs::read_to_string(&dense).expect("answers");
    let first = whole.find('\n').expect("line") + 1;
    fs::write(&dense, &whole[..first + 20]).expect("write");
    let star = out.join("512/niah_single_1/star,block=1of4.jsonl");
    let untouched = fs::read_to_string(&star).expect("answers");
    succeed(&mut small_run(&out));
    assert!(fs::read_to_string(&dense).expect("answers").starts_with(&whole[..first]));
    assert_eq!(lines(&dense)[1]["pred"], answers[1]["pred"]);
    assert_eq!(fs::read_to_string(&star).expect("answers"), untouched);

    // Other settings do not mix in.
    assert_eq!(info["settings"]["tokenised"], "context and query separately");
    let message = fail(small_run(&out).args(["--tokenise", "joint"]), 2);
    assert!(message.contains("tokenised") && message.contains("as one text"), "{message}");
    let message = fail(small_run(&out).args(["--variant", "clean"]), 2);
    assert!(message.contains("variant") && message.contains("star-paper"), "{message}");

    // A run compared with itself has not changed; its methods may have.
    let mut compare = eval("compare --methods dense,star:block=1/4");
    let (text, _) = succeed(compare.arg(&out).arg(&out));
    assert!(text.contains("niah_single_1") && text.contains("noise"), "{text}");
    let (text, _) = succeed(eval("compare --json").arg(&out).arg(&out));
    for line in text.lines() {
        let comparison: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(comparison["before"], comparison["after"]);
        assert_eq!(comparison["tasks"][0]["difference"]["mean"], 0.0);
        assert_eq!(comparison["tasks"][0]["changed"].as_array().expect("list").len(), 0);
    }
    let message = fail(eval("compare --methods ring").arg(&out).arg(&out), 2);
    assert!(message.contains("ring") && message.contains("star:block=1/4"), "{message}");

    let message = fail(eval("compare --methods dense,ring,star").arg(&out).arg(&out), 2);
    assert!(message.contains("two are compared"), "{message}");

    fs::remove_file(out.join("report.html")).expect("remove");
    succeed(eval("report").arg(&out));
    assert!(out.join("report.html").is_file());
}

#[test]
fn samples_are_written_and_read_and_a_bad_line_costs_only_itself() {
    let dir = TempDir::new().expect("dir");
    let (samples, out) = (dir.path().join("samples"), dir.path().join("run"));
    let mut generate = eval("generate ruler --lengths 512 --tasks niah_single_1 --samples 2");
    let (text, _) = succeed(generate.arg("--out").arg(&samples));
    let file = samples.join("512/niah_single_1/validation.jsonl");
    assert!(text.contains("validation.jsonl"), "{text}");
    let made = lines(&file);
    assert_eq!(made.len(), 2);
    assert!(made[0]["input_context"].is_string() && made[0]["length"].as_u64() <= Some(512));

    let broken =
        fs::read_to_string(&file).expect("samples").replacen("\"input_query\"", "\"x\"", 1);
    fs::write(&file, broken).expect("write");
    let mut run = eval("ruler --lengths 512 --tasks niah_single_1 --methods dense");
    run.arg("--data").arg(&samples).arg("--out").arg(&out);
    let message = fail(&mut run, 1);
    assert!(message.contains("validation.jsonl:1: "), "{message}");
    assert!(message.contains("input_query"), "{message}");
    assert_eq!(lines(&out.join("512/niah_single_1/dense.jsonl"))[0]["index"], 1);

    let message = fail(run.args(["--seed", "1"]), 2);
    assert!(message.contains("--seed") && message.contains("--data"), "{message}");
}

#[test]
fn foreign_files_are_read_as_far_as_they_go() {
    let dir = TempDir::new().expect("dir");
    let (samples, out) = (dir.path().join("samples"), dir.path().join("run"));
    let mut generate = eval("generate ruler --lengths 512 --tasks niah_single_1 --samples 2");
    succeed(generate.arg("--out").arg(&samples));
    // Every number the same, as where something else is kept in `index`: lines count. And a file of
    // nothing.
    let file = samples.join("512/niah_single_1/validation.jsonl");
    let text = fs::read_to_string(&file).expect("samples").replace("\"index\":1", "\"index\":0");
    fs::write(&file, format!("\u{feff}{text}")).expect("write");
    let empty = samples.join("512/vt/validation.jsonl");
    fs::create_dir_all(empty.parent().expect("folder")).expect("folder");
    fs::write(&empty, "").expect("write");

    let mut run = eval("ruler --lengths 512 --samples 2 --methods star:block=128,anchor=64");
    run.arg("--data").arg(&samples).arg("--out").arg(&out);
    let message = fail(&mut run, 1);
    assert!(message.contains("vt/validation.jsonl: the file holds no sample"), "{message}");
    let answers = lines(&out.join("512/niah_single_1/star,block=128,anchor=64.jsonl"));
    assert_eq!(answers.iter().map(|line| &line["index"]).collect::<Vec<_>>(), [0, 1]);
    let report = fs::read_to_string(out.join("report.md")).expect("report");
    for piece in
        ["cwe is left out", "## Not answered", "the file holds no sample", "up to 2 samples"]
    {
        assert!(report.contains(piece), "{piece}: {report}");
    }
    assert!(!report.contains(", variant star-paper"), "files do not say which variant made them");

    // What failed is forgotten when it goes well, and only then.
    let again = |tasks: &str| {
        let mut run = eval("ruler --lengths 512 --samples 2 --methods star:block=128,anchor=64");
        succeed(run.args(["--tasks", tasks]).arg("--data").arg(&samples).arg("--out").arg(&out));
        fs::read_to_string(out.join("report.md")).expect("report").contains("holds no sample")
    };
    assert!(again("niah_single_1"));
    fs::write(&empty, text).expect("write");
    assert!(!again("vt"));
}

#[test]
fn a_folder_is_written_by_one_run_at_a_time() {
    let dir = TempDir::new().expect("dir");
    let lock = fs::File::create(dir.path().join("run.lock")).expect("file");
    lock.lock().expect("lock");
    let message = fail(&mut small_run(dir.path()), 1);
    assert!(message.contains("another run is writing here"), "{message}");
    drop(lock);
    succeed(&mut small_run(dir.path()));
}

#[test]
fn times_of_other_machines_are_not_compared() {
    let dir = TempDir::new().expect("dir");
    let run = |threads: &str, method: &str| {
        let line = format!(
            "ruler --device cpu --threads {threads} --lengths 512 --tasks niah_single_1 --samples 2 --methods {method}"
        );
        succeed(eval(&line).arg("--out").arg(dir.path())).0
    };
    run("1", "dense");
    let text = run("2", "ring");
    let ring = text.lines().find(|line| line.starts_with("ring")).expect("a row");
    assert!(!ring.trim_end().ends_with('x'), "{text}");
    let text = run("1", "star:block=128");
    let star = text.lines().find(|line| line.starts_with("star")).expect("a row");
    assert!(star.trim_end().ends_with('x'), "{text}");
}

#[test]
fn joint_tokens_are_those_of_the_whole_text() {
    let dir = TempDir::new().expect("dir");
    // The boundary lies within a word, as it can without chat markers.
    let folder = dir.path().join("samples/512/vt");
    fs::create_dir_all(&folder).expect("folder");
    let (context, query) =
        ("Call me Ishmael. Some years ago I saw th", "e watery part of the world");
    let sample = serde_json::json!(
        {"input_context": context, "input_query": query, "outputs": ["world"]}
    );
    fs::write(folder.join("validation.jsonl"), sample.to_string()).expect("write");
    let mut tokens = Vec::new();
    for how in ["apart", "joint"] {
        let out = dir.path().join(how);
        let mut run = eval("ruler --template base --lengths 512 --tasks vt --methods dense");
        run.args(["--tokenise", how]).arg("--data").arg(dir.path().join("samples"));
        succeed(run.arg("--out").arg(&out));
        let timings = lines(&out.join("512/vt/dense.jsonl"))[0]["timings"].clone();
        let count = |name: &str| timings[name].as_u64().expect("tokens");
        tokens.push((count("context_tokens"), count("query_tokens")));
        let info = fs::read_to_string(out.join("run.json")).expect("run");
        assert_eq!(info.contains("as one text"), how == "joint");
    }
    // " the" is a token of its own, and the query's.
    let [apart, joint] = [tokens[0], tokens[1]];
    assert!(joint.0 < apart.0 && joint.1 <= apart.1, "{tokens:?}");
}

#[test]
fn the_published_tables_of_babilong_are_read() {
    let dir = TempDir::new().expect("dir");
    let (data, out) = (dir.path().join("sets"), dir.path().join("run"));
    let tables =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../asterism-eval/tests/golden/eval/tables");
    fs::create_dir_all(data.join("data/qa1")).expect("folder");
    for part in ["00000-of-00002", "00001-of-00002"] {
        let to = data.join(format!("data/qa1/1k-{part}.parquet"));
        fs::copy(tables.join(format!("split-{part}.parquet")), to).expect("copy");
    }
    let mut run = eval("babilong --lengths 1k --tasks qa1 --samples 2 --methods dense");
    run.arg("--data").arg(&data).arg("--out").arg(&out);
    succeed(&mut run);
    let answers = lines(&out.join("1024/qa1/dense.jsonl"));
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1]["outputs"][0], "room 1");

    fs::copy(tables.join("numbers.parquet"), data.join("data/qa1/2k.parquet")).expect("copy");
    let message = fail(run.args(["--lengths", "2k"]), 1);
    assert!(message.contains("2k.parquet: column \"target\": it holds 64-bit"), "{message}");
}

#[test]
fn the_anchor_study_is_a_run_by_nine_methods() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("study");
    let mut study = eval("ablate --lengths 512 --tasks niah_single_1 --samples 1 --hosts 3");
    let (text, _) = succeed(study.arg("--out").arg(&out));
    let names = [
        "dense",
        "star:block=1/4",
        "star:block=1/4:anchor=none",
        "star:block=1/4:anchor-at=random",
        "star:block=1/4:anchor-at=previous",
        "star:block=1/4:anchor-content=constant",
        "star:block=1/4:anchor-content=random",
        "star:block=1/4:anchor-content=shuffled",
        "star:block=1/4:anchor-content=previous:anchor-at=previous",
    ];
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
        let file = format!("{}.jsonl", name.replace(':', ",").replace('/', "of"));
        assert_eq!(lines(&out.join("512/niah_single_1").join(file)).len(), 1, "{name}");
    }
    let info: Value = serde_json::from_str(&fs::read_to_string(out.join("run.json")).expect("run"))
        .expect("JSON");
    let methods = info["methods"].as_array().expect("methods");
    let found: Vec<_> = methods.iter().map(|method| method["name"].as_str()).collect();
    assert_eq!(found, names.map(Some));
    assert!(out.join("report.html").is_file());

    let (help, _) = succeed(&mut eval("ablate --help"));
    assert!(help.contains("[default: niah]") && !help.contains("--methods"), "{help}");
    let (help, _) = succeed(&mut eval("ruler --help"));
    assert!(help.contains("[default: all]") && help.contains("anchor-content="), "{help}");
    let message = fail(eval("ablate --lengths 512 --block 1/64").arg("--out").arg(&out), 2);
    assert!(message.contains("star:block=1/64 at length 512"), "{message}");
}

#[test]
fn wrong_arguments_are_named_before_any_work() {
    let dir = TempDir::new().expect("dir");
    let nowhere = dir.path().join("out");
    for (line, expected) in [
        ("ruler --tasks niah_single_9", "niah_single_9"),
        ("ruler --tasks qa_1", "--squad"),
        ("ruler --tasks qa_2", "--hotpot"),
        ("ruler --lengths 129k", "131072"),
        ("ruler --lengths 4q", "4q"),
        ("ruler --lengths 4k,4096", "given twice"),
        ("ruler --methods dense,dense", "given twice"),
        ("ruler --methods sparse", "sparse"),
        ("ruler --methods anchor=1k,star", "anchor=1k"),
        ("generate infinitebench --lengths 17m --tasks passkey", "16m"),
        ("generate infinitebench --lengths 18446744073709551615 --tasks passkey", "1024m"),
        ("ruler --lengths 512 --methods star:block=1/64", "star:block=1/64 at length 512"),
        ("ruler --variant mine", "ruler-upstream"),
        ("ruler --template alpaca", "alpaca"),
        ("ruler --samples 0", "0"),
        ("ruler --data no/such/folder --tasks vt", "no/such/folder/4096/vt/validation.jsonl"),
        ("ruler --model no-such-model", "no-such-model"),
        ("babilong --tasks qa21", "qa21"),
        ("babilong --babi no/such/folder --tasks qa1", "no/such/folder"),
        ("babilong --data no/such --tasks qa1 --lengths 16k", "no/such/qa1/16k.jsonl"),
        ("infinitebench --tasks code_debug", "--data"),
        ("infinitebench --data no/such --tasks passkey", "no/such/passkey.jsonl"),
        ("generate ruler --tasks qa_1", "--squad"),
    ] {
        let message = fail(eval(line).arg("--out").arg(&nowhere), 2);
        assert!(message.contains(expected), "{line}: {message}");
    }
    assert!(!nowhere.exists(), "nothing is written for a run that cannot be");

    let message = fail(eval("ruler --haystack no/such.txt").arg("--out").arg(&nowhere), 1);
    assert!(message.contains("no/such.txt"), "{message}");
    let message = fail(&mut eval("report no/such/run"), 1);
    assert!(message.contains("no/such/run/run.json"), "{message}");
    assert!(fail(&mut eval("ruler"), 2).contains("--out"));
}

#[test]
fn a_task_asked_for_by_name_must_fit() {
    let dir = TempDir::new().expect("dir");
    let mut run = eval("ruler --lengths 256 --tasks niah_multiquery --samples 1 --methods dense");
    let message = fail(run.arg("--out").arg(dir.path()), 1);
    assert!(message.contains("niah_multiquery does not fit into 256 tokens"), "{message}");
}

#[test]
fn settings_come_from_the_environment() {
    let dir = TempDir::new().expect("dir");
    let mut command = eval("generate babilong --tasks qa1");
    command
        .env("ASTERISM_EVAL_LENGTHS", "700,800")
        .env("ASTERISM_EVAL_SAMPLES", "1")
        .env("ASTERISM_EVAL_OUT", dir.path());
    succeed(&mut command);
    for length in ["700", "800"] {
        assert_eq!(lines(&dir.path().join(length).join("qa1/validation.jsonl")).len(), 1);
    }
}
