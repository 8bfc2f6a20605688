//! Hosts as processes with a GPU each, against hosts as threads on one: the same answers and the
//! same messages, and an end within seconds when one of them is gone. They are skipped where there
//! are no two GPUs; what is said there instead is tested, too.

#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

#[path = "common/binary.rs"]
mod binary;
#[path = "common/job.rs"]
mod job;
#[path = "common/prompts.rs"]
mod prompts;

use asterism::tensor::cuda::Device;
use binary::{asterism, fail, succeed};
use job::Job;
use prompts::{prompts, records};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Whether there are two GPUs; otherwise says that `test` is skipped.
fn has_two(test: &str) -> bool {
    let found = Device::count().is_ok_and(|count| count >= 2);
    if !found {
        eprintln!("{test}: skipped: there are no two GPUs");
    }
    found
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(Into::into).collect()
}

/// The records of a batch of `prompts`, by threads on one GPU or by processes.
fn batch(prompts: &Path, out: &Path, processes: bool, how: &str) -> Vec<Value> {
    let _ = std::fs::remove_file(out);
    let sampled = "--ignore-eos --max-tokens 300 --temperature 1.3 --seed 7 --top-logits 20";
    let shared = "--device cuda --block 1k --anchor 512";
    let mut command = asterism();
    if processes {
        command.args(["launch", "-n", "2", "--"]);
    }
    command.arg("batch").arg(prompts).arg(out);
    command.args(words(&format!("{sampled} {shared} {how}")));
    if !processes {
        // In the same order as processes do.
        command.args(words("--hosts 2"));
        if !how.contains("--decode-weights") {
            command.args(words("--decode-weights replicated"));
        }
    }
    let (_, stderr) = succeed(&mut command);
    assert_eq!(stderr, "3 written, 0 already there, 0 failed\n", "rank 0 alone speaks");
    records(out)
}

#[test]
fn two_gpus_answer_like_two_threads_on_one() {
    if !has_two("two_gpus_answer_like_two_threads_on_one") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let prompts = prompts(&dir, 300);
    // Nano's matrices are too small to be divided: a random model whose are not.
    let model = dir.path().join("model");
    let model = model.to_str().unwrap();
    let shape = "bench --shape llama-1b --layers 2 --write-model";
    succeed(asterism().args(words(shape)).arg(model));
    let sliced = format!("-m {model} --decode-weights sliced");
    let sliced_zigzag = format!("{sliced} --method zigzag");
    for how in [
        "",
        "--anchor-kv recompute",
        "--method ring",
        "--method zigzag",
        "--method dense",
        "--revisit 256",
        "--kv-dtype fp8",
        "--kv-dtype fp8 --method zigzag",
        &sliced,
        &sliced_zigzag,
    ] {
        let records =
            |processes, name: &str| batch(&prompts, &dir.path().join(name), processes, how);
        let threads = records(false, "threads.jsonl");
        let processes = records(true, "processes.jsonl");
        assert_eq!((threads.len(), processes.len()), (3, 3), "{how}");
        for (thread, process) in threads.iter().zip(&processes) {
            let what = format!("{how}, prompt {}", thread["index"]);
            assert_eq!(process["token_ids"].as_array().unwrap().len(), 300, "{what}");
            // The same operations in the same order on the same kind of processor.
            for field in ["token_ids", "top_logits"] {
                assert_eq!(process[field], thread[field], "{what}: {field}");
            }
            for bytes in ["phase1_bytes_sent", "phase2_bytes_sent"] {
                assert_eq!(process["timings"][bytes], thread["timings"][bytes], "{what}: {bytes}");
            }
        }
    }
}

#[test]
fn a_rank_that_is_gone_or_stopped_ends_both_and_is_named() {
    if !has_two("a_rank_that_is_gone_or_stopped_ends_both_and_is_named") {
        return;
    }
    let phase1 = "bench --lengths 120k --methods zigzag --runs 1000 --decode-tokens 0";
    let decode = "bench --lengths 4k --methods star --runs 1000 --decode-tokens 64k";
    for arguments in [phase1, decode] {
        for (signal, why) in [("KILL", "its process ended"), ("STOP", "no sign of life for 3 s")] {
            for victim in [1, 0] {
                let mut command = std::process::Command::new(job::binary());
                command.args(["launch", "-n", "2", "--"]).args(words(arguments));
                let job = Job::start(command.args(["--device", "cuda"]));
                job.wait_for_ranks(2);
                std::thread::sleep(Duration::from_secs(4));
                job.signal(victim, signal);
                let ended = job.wait(Duration::from_secs(15));
                let what = format!("{signal} of rank {victim} in {arguments}: {ended:?}");
                assert!(!ended.success(), "{what}");
                assert!(ended.stderr.contains(&format!("rank {victim} was lost: {why}")), "{what}");
                assert!(ended.left.is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn what_is_missing_is_said_once_and_ends_all() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("a.txt");
    std::fs::write(&text, "The sky is blue. ".repeat(50)).unwrap();
    let mut alone = asterism();
    alone.args(["ask", "Why?", "--device", "cuda", "-c"]).arg(&text);
    let error = fail(alone.env("RANK", "0").env("WORLD_SIZE", "2"), 1);
    assert!(error.contains("set MASTER_ADDR"), "{error}");
    if Device::count().is_ok() {
        return;
    }
    let mut both = asterism();
    both.args(["launch", "-n", "2", "--", "ask", "Why?", "--device", "cuda", "-c"]).arg(&text);
    let error = fail(&mut both, 1);
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
    assert!(error.contains("NVIDIA") && !error.contains("was lost"), "{error}");
}
