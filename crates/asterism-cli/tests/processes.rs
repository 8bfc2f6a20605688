//! Hosts as processes, against hosts as threads: the same answers and the same messages, and an end
//! within seconds when one of them is gone.
//!
//! They need `mpirun` and are left out otherwise: `cargo test -- --ignored` runs them.

#![allow(clippy::unwrap_used)]

#[path = "common/binary.rs"]
mod binary;
#[path = "common/job.rs"]
mod job;
#[path = "common/prompts.rs"]
mod prompts;

use binary::{asterism, succeed};
use job::{Job, mpirun};
use prompts::{prompts, records};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Long enough for anything here to be done.
const DONE: Duration = Duration::from_secs(120);

/// The records of a batch of `prompts`, by threads or by processes.
fn batch(prompts: &Path, out: &Path, hosts: usize, processes: bool, how: &str) -> Vec<Value> {
    let _ = std::fs::remove_file(out);
    let sampled = "--ignore-eos --max-tokens 10 --temperature 1.3 --seed 7 --top-logits 20";
    let shared = "--threads 2 --block 256 --anchor 128";
    let options = format!("{sampled} {shared} {how}");
    let mut arguments = vec!["batch".into(), prompts.as_os_str().to_owned(), out.into()];
    arguments.extend(options.split_whitespace().map(Into::into));
    if processes {
        let ended = Job::start(&mut mpirun(hosts, &arguments)).wait(DONE);
        assert!(ended.success(), "{how}: {ended:?}");
        assert_eq!(ended.stderr, "3 written, 0 already there, 0 failed\n", "rank 0 alone speaks");
    } else {
        succeed(asterism().args(arguments).args(["--hosts", &hosts.to_string()]));
    }
    records(out)
}

/// The largest logits, by token.
fn logits(record: &Value) -> Vec<(u64, f64)> {
    let pair = |pair: &Value| (pair[0].as_u64().unwrap(), pair[1].as_f64().unwrap());
    record["top_logits"].as_array().unwrap().iter().map(pair).collect()
}

/// What the plan says that all hosts send for a context like that of `record`.
fn planned(record: &Value, hosts: usize, how: &str) -> u64 {
    let tokens = record["timings"]["context_tokens"].to_string();
    let mut command = asterism();
    command.args(["plan", "--json", "--tokens", &tokens, "--hosts", &hosts.to_string()]);
    command.args(["--block", "256", "--anchor", "128"]).args(how.split_whitespace());
    let plan: Value = serde_json::from_str(&succeed(&mut command).0).unwrap();
    let method = how.split(' ').skip_while(|word| *word != "--method").nth(1).unwrap_or("star");
    let all = plan["methods"].as_array().unwrap();
    let plan = all.iter().find(|plan| plan["method"] == method).unwrap();
    let hosts = plan["per_host"].as_array().unwrap();
    hosts.iter().map(|host| host["sent_bytes"].as_u64().unwrap()).sum()
}

/// Compares processes with threads on `hosts` hosts, for every method.
fn compare(hosts: usize) {
    let dir = TempDir::new().unwrap();
    let prompts = prompts(&dir, 70);
    for how in [
        "--dtype f32",
        "--dtype f32 --anchor-kv recompute",
        "--dtype f32 --method ring",
        "--dtype f32 --method zigzag",
        "--dtype f32 --method dense",
        "--dtype bf16",
        "--dtype bf16 --method zigzag",
        "--dtype bf16 --kv-dtype int8",
        "--dtype bf16 --kv-dtype int8 --method zigzag",
        "--dtype f32 --revisit 64",
        "--dtype f32 --decode-weights replicated",
        "--dtype f32 --decode-weights sliced",
        "--dtype bf16 --decode-weights sliced --method zigzag",
    ] {
        let records =
            |processes, name: &str| batch(&prompts, &dir.path().join(name), hosts, processes, how);
        let threads = records(false, "threads.jsonl");
        let processes = records(true, "processes.jsonl");
        assert_eq!((threads.len(), processes.len()), (3, 3), "{how}");
        let mut answers = HashSet::new();
        for (thread, process) in threads.iter().zip(&processes) {
            let what = format!("{hosts} hosts, {how}, prompt {}", thread["index"]);
            let ids = &process["token_ids"];
            assert_eq!(ids.as_array().unwrap().len(), 10, "{what}: an empty answer");
            assert_eq!(ids, &thread["token_ids"], "{what}");
            answers.insert(ids.to_string());
            for bytes in ["phase1_bytes_sent", "phase2_bytes_sent"] {
                let [a, b] = [thread, process].map(|record| &record["timings"][bytes]);
                assert_eq!(a, b, "{what}: {bytes}");
            }
            let sent = process["timings"]["phase1_bytes_sent"].as_u64().unwrap();
            assert_eq!(sent, planned(process, hosts, how), "{what}: bytes of the plan");
            for ((a, x), (b, y)) in logits(thread).into_iter().zip(logits(process)) {
                assert_eq!(a, b, "{what}");
                assert!((x - y).abs() < 1e-5, "{what}: token {a}: {x} and {y}");
            }
        }
        // Where all are alike, nothing would be noticed.
        assert!(answers.len() > 1, "{how}");
    }
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn two_processes_answer_like_two_threads() {
    compare(2);
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn three_processes_answer_like_three_threads() {
    compare(3);
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn four_processes_answer_like_four_threads() {
    compare(4);
}

/// A document that takes many seconds to encode.
fn long_document(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("long.txt");
    std::fs::write(&path, "The grass is green. The sky is blue. The sun is yellow. ".repeat(6000))
        .unwrap();
    path
}

/// A job that encodes, decodes or waits for requests for longer than any test waits.
fn busy_job(dir: &TempDir, phase: &str) -> Job {
    let mut arguments: Vec<std::ffi::OsString> = match phase {
        "phase 1" => {
            vec!["ask".into(), "--context".into(), long_document(dir).into(), "Why?".into()]
        }
        "decode" => {
            vec!["batch".into(), prompts(dir, 70).into(), dir.path().join("out.jsonl").into()]
        }
        _ => ["serve", "--port", "0"].map(Into::into).into(),
    };
    arguments.extend(["--threads", "1", "--block", "1k"].map(Into::into));
    if phase == "decode" {
        arguments.extend(["--ignore-eos", "--max-tokens", "100k"].map(Into::into));
    }
    let job = Job::start(&mut mpirun(3, &arguments));
    job.wait_for_ranks(3);
    // The model is there within one; short contexts, too.
    std::thread::sleep(Duration::from_secs(3));
    job
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn a_rank_that_is_gone_or_stopped_ends_all_of_them_and_is_named() {
    for phase in ["phase 1", "decode", "idle server"] {
        for (signal, why) in [("KILL", "its process ended"), ("STOP", "no sign of life for 3 s")] {
            for victim in [1, 0] {
                let dir = TempDir::new().unwrap();
                let job = busy_job(&dir, phase);
                job.signal(victim, signal);
                let ended = job.wait(Duration::from_secs(10));
                let what = format!("{signal} of rank {victim} in {phase}: {ended:?}");
                assert!(!ended.success(), "{what}");
                assert!(ended.stderr.contains(&format!("rank {victim} was lost: {why}")), "{what}");
                assert!(ended.left.is_empty(), "{what}");
            }
        }
    }
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn what_is_wrong_is_said_once_and_ends_all_of_them() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("a.txt");
    std::fs::write(&text, "The sky is blue. ".repeat(50)).unwrap();
    for (more, code, expected) in [
        ("--no-such-option", 2, "unexpected argument '--no-such-option'"),
        ("--model /nowhere/at/all", 1, "/nowhere/at/all"),
        ("--max-tokens 1m", 1, "are more than the 131072 positions"),
        ("--hosts 3", 2, "the plan has 3 hosts, but 2 processes were started together"),
    ] {
        let mut arguments = vec!["ask".into(), "-c".into(), text.as_os_str().to_owned()];
        arguments.extend(["Why?"].into_iter().chain(more.split(' ')).map(Into::into));
        let ended = Job::start(&mut mpirun(2, &arguments)).wait(DONE);
        assert_eq!(ended.code, Some(code), "{more}: {ended:?}");
        assert_eq!(ended.stderr.matches(expected).count(), 1, "{more}: {ended:?}");
        assert!(!ended.stderr.contains("was lost"), "{more}: {ended:?}");
        assert!(ended.left.is_empty(), "{more}: {ended:?}");
    }
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn ranks_that_loaded_other_things_are_refused_by_rank_field_and_both_values() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("a.txt");
    std::fs::write(&text, "The sky is blue. ".repeat(50)).unwrap();
    let ask = format!("ask -c {} Why?", text.display());
    let bench = "bench --shape small --lengths 64 --runs 1".to_owned();
    for (command, zero, one, expected) in [
        (&ask, "--cpu portable", "--cpu tiles", ["tiles", "portable"]),
        (&ask, "--dtype f32", "--dtype bf16", ["weights in bf16", "f32"]),
        (&ask, "--kv-dtype f32", "--kv-dtype bf16", ["keys in bf16", "f32"]),
        (&ask, "--threads 1", "--threads 8", ["tokens in a pass 1024", "512"]),
        (&bench, "--seed 1", "--seed 2", ["the model", "--model"]),
    ] {
        let words = |more: &str| -> Vec<std::ffi::OsString> {
            command.split(' ').chain(more.split(' ')).map(Into::into).collect()
        };
        let mut command = mpirun(1, &words(zero));
        command.args([":", "-n", "1"]).arg(job::binary()).args(words(one));
        let ended = Job::start(&mut command).wait(DONE);
        assert!(!ended.success(), "{one}: {ended:?}");
        assert_eq!(ended.stderr.matches("error: rank 1 has ").count(), 1, "{one}: {ended:?}");
        for part in expected {
            assert!(ended.stderr.contains(part), "{one}: {part} is missing: {ended:?}");
        }
        assert!(!ended.stderr.contains("was lost"), "{one}: {ended:?}");
    }
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn launch_starts_processes_and_passes_on_what_comes_of_them() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("a.txt");
    std::fs::write(&text, "The access code for the Lisbon vault is 48213. ".repeat(40)).unwrap();
    let ask = "What is the access code for the Lisbon vault?";
    let launch = |more: &[&str]| {
        let mut command = asterism();
        command.args(["launch", "-n", "2", "--", "ask", ask, "--json", "-c"]).arg(&text).args(more);
        command
    };
    let (out, _) = succeed(&mut launch(&["--block", "128"]));
    let answer: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(answer["plan"]["hosts"], 2);
    assert!(answer["answer"].as_str().unwrap().contains("48213"), "{answer}");
    binary::fail(&mut launch(&["--block", "3"]), 2);
    let error = binary::fail(launch(&[]).env("PATH", dir.path()), 2);
    assert!(error.contains("install Open MPI") && error.contains("--hosts 2"), "{error}");
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn variables_without_mpi_behind_them_are_refused() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("a.txt");
    std::fs::write(&text, "The sky is blue. ".repeat(50)).unwrap();
    let ask = |variables: &[(&str, &str)]| {
        let mut command = asterism();
        command.args(["ask", "Why?", "-c"]).arg(&text).envs(variables.iter().copied());
        binary::fail(&mut command, 1)
    };
    let error = ask(&[("RANK", "0")]);
    assert!(error.contains("WORLD_SIZE is not"), "{error}");
    // Two worlds of one process each.
    let error = ask(&[("RANK", "0"), ("WORLD_SIZE", "2")]);
    assert!(error.contains("torchrun started 2 processes"), "{error}");
    assert!(error.contains("sees rank 0 of 1"), "{error}");
    let error = ask(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("ASTERISM_MPI_LIBRARY", "libc.so.6")]);
    assert!(error.contains("libc.so.6 cannot be used: it has no MPI_"), "{error}");
}
