//! The binary, driven as a user drives it: right and wrong input, exit codes, messages.

#[path = "common/binary.rs"]
mod binary;

use assert_cmd::Command;
use binary::{asterism, fail, succeed, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FACT: &str = "The access code for the Lisbon vault is 48213.";
const QUESTION: &str = "What is the access code for the Lisbon vault?";

fn document() -> String {
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(30);
    format!("{prose}{FACT} {prose}")
}

fn file(dir: &TempDir, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, contents).expect("write");
    path
}

fn ask(context: &Path) -> Command {
    let mut command = asterism();
    command.arg("ask").arg("--context").arg(context);
    command
}

#[test]
fn ask_answers_from_the_document_by_every_method() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    for method in ["star", "ring", "zigzag", "dense"] {
        let args =
            ["--method", method, "--hosts", "3", "--block", "256", "--anchor", "64", QUESTION];
        let (out, err) = succeed(ask(&path).args(args));
        assert!(out.contains("48213"), "{method}: {out}");
        assert!(
            err.contains(method) && err.contains("3 hosts") && err.contains("phase 2"),
            "{err}"
        );
    }
}

#[test]
fn documents_come_from_several_files_and_from_standard_input() {
    let dir = TempDir::new().expect("dir");
    let first = file(&dir, "a.txt", "Nothing of interest is here.");
    let mut command = ask(&first);
    command.args(["--context", "-", QUESTION]).write_stdin(document());
    assert!(succeed(&mut command).0.contains("48213"));
}

#[test]
fn questions_come_from_standard_input_and_are_independent() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    let questions = format!("{QUESTION}\n\n{QUESTION}\n");
    let (out, err) = succeed(ask(&path).arg("--json").write_stdin(questions));
    let answers: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 2, "{err}");
    assert_eq!(answers[0]["token_ids"], answers[1]["token_ids"]);
    assert_eq!(answers[0]["finish"], "eos");
    assert_eq!(answers[0]["plan"]["method"], "star");
    assert!(answers[0]["timings"]["phase1_s"].as_f64().expect("seconds") > 0.0);
}

#[test]
fn sources_lead_from_an_answer_to_a_line_of_a_file() {
    let dir = TempDir::new().expect("dir");
    let prose = "The grass is green. The sky is blue.\nThe sun is yellow. Here we go.\n".repeat(40);
    let first = file(&dir, "a.txt", &prose);
    let second = file(&dir, "b\u{1b}.txt", format!("\n\n{prose}{FACT}\n{prose}"));
    let run = |extra: &[&str]| {
        let mut command = ask(&first);
        command.arg("--context").arg(&second).args(["--block", "300", "--anchor", "64"]);
        succeed(command.args(["--max-tokens", "24"]).args(extra).arg(QUESTION)).0
    };
    let (plain, shown) = (run(&[]), run(&["--sources"]));
    assert!(shown.starts_with(&plain), "{shown}");
    let lines: Vec<&str> = shown.lines().skip_while(|line| *line != "Sources:").collect();
    assert_eq!(lines.len(), 4, "{shown}");
    assert!(lines[1].starts_with("1. ") && lines[1].contains("48213"), "{shown}");
    let json = |extra: &[&str]| -> Value {
        serde_json::from_str(&run(&[&["--json"], extra].concat())).expect("JSON")
    };
    let (plain, sourced) = (json(&[]), json(&["--sources"]));
    assert_eq!(plain["token_ids"], sourced["token_ids"]);
    assert_eq!(plain["sources"], Value::Null);
    let best = &sourced["sources"][0];
    assert!(best["passage"].as_str().expect("passage").contains(FACT), "{best}");
    assert!(best["file"].as_str().expect("file").ends_with("b\u{1b}.txt"), "{best}");
    // The fact is in line 83, and the passage begins some tokens before it.
    let (line, last) = (best["line"].as_u64(), best["last_line"].as_u64());
    assert!((77..=83).contains(&line.expect("line")) && last >= Some(83), "{best}");
    let place = best["place"].as_str().expect("place");
    assert!(place.contains("b\u{1b}.txt:7"), "{best}");
    let blocks = sourced["plan"]["blocks"].as_u64().expect("blocks");
    assert_eq!(sourced["sources"].as_array().expect("list").len() as u64, blocks);
    let both = fail(ask(&first).args(["--sources", "--compare", QUESTION]), 2);
    assert!(both.contains("--compare"), "{both}");
}

#[test]
fn compare_shows_three_methods_that_agree() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    let (out, _) =
        succeed(ask(&path).args(["--compare", "--block", "256", "--hosts", "2", QUESTION]));
    let rows: Vec<&str> = out.lines().collect();
    assert_eq!(rows.len(), 4, "{out}");
    for (row, method) in rows[1..].iter().zip(["star", "ring", "dense"]) {
        assert!(row.starts_with(method) && row.contains("48213"), "{out}");
    }
    assert!(rows[3].contains("1.00x"), "{out}");
}

#[test]
fn wrong_input_is_named() {
    let dir = TempDir::new().expect("dir");
    let good = file(&dir, "good.txt", document());
    let missing = fail(ask(Path::new("/no/such/file")).arg(QUESTION), 1);
    assert!(missing.contains("/no/such/file") && missing.contains("No such file"), "{missing}");
    let folder = TempDir::new().expect("dir");
    let folder = fail(ask(folder.path()).arg(QUESTION), 1);
    assert!(folder.contains("nothing to read"), "{folder}");
    let empty = fail(ask(&file(&dir, "empty.txt", " \n")).arg(QUESTION), 1);
    assert!(empty.contains("empty"), "{empty}");
    let binary = fail(ask(&file(&dir, "b.txt", b"ab\0")).arg(QUESTION), 1);
    assert!(binary.contains("binary") && binary.contains("byte 2"), "{binary}");
    let question = fail(ask(&good).arg("  "), 1);
    assert!(question.contains("question"), "{question}");
    let none = fail(ask(&good).write_stdin(""), 2);
    assert!(none.contains("no question"), "{none}");
    let model = fail(ask(&good).args(["--model", "no-such-model", QUESTION]), 2);
    assert!(model.contains("no-such-model") && model.contains("org/name"), "{model}");
    let offline = fail(ask(&good).args(["--model", "org/name", "--offline", QUESTION]), 1);
    assert!(offline.contains("(--offline)"), "{offline}");
    assert!(offline.contains("org/name"), "{offline}");
}

#[test]
fn impossible_settings_are_refused_with_their_numbers() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    let cases: [(&[&str], &str); 9] = [
        (&["--block", "15"], "15"),
        (&["--block", "256", "--anchor", "257"], "257"),
        (&["--hosts", "0"], "0"),
        (&["--block", "4q"], "4q"),
        (&["--top-k", "5"], "--temperature"),
        (&["--temperature=-1"], "-1"),
        (&["--max-tokens", "0"], "--max-tokens"),
        (&["--cpu", "sse9"], "sse9"),
        (&["--stop", ""], "--stop"),
    ];
    for (args, expected) in cases {
        let message = fail(ask(&path).args(args).arg(QUESTION), 2);
        assert!(message.contains(expected), "{args:?}: {message}");
    }
}

#[test]
fn a_context_beyond_the_models_positions_is_refused_before_any_work() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "long.txt", "word ".repeat(140_000));
    let message = fail(ask(&path).arg(QUESTION), 1);
    assert!(message.contains("131072") && message.contains("positions"), "{message}");
    // It fits, but not with the answer.
    let path = file(&dir, "short.txt", document());
    let message = fail(ask(&path).args(["--max-tokens", "131000", QUESTION]), 1);
    assert!(message.contains("131000") && message.contains("--max-tokens"), "{message}");
}

#[test]
fn damaged_checkpoints_are_named() {
    let dir = TempDir::new().expect("dir");
    let context = file(&dir, "a.txt", document());
    let model = nano_folder(&dir);
    let name = model.to_str().expect("UTF-8").to_owned();
    let run =
        || ask(&context).args(["--model", &name, "--max-tokens", "2", QUESTION]).clone_status();
    assert_eq!(run().0, Some(0), "{}", run().1);

    let shard = model.join("model-00002-of-00002.safetensors");
    let whole = std::fs::read(&shard).expect("shard");
    std::fs::write(&shard, &whole[..whole.len() / 2]).expect("truncate");
    let (code, message) = run();
    assert_eq!(code, Some(1));
    assert!(message.contains("model-00002-of-00002.safetensors"), "{message}");
    let mut corrupt = whole.clone();
    corrupt[8..16].fill(b'#');
    std::fs::write(&shard, corrupt).expect("corrupt");
    assert!(run().1.contains("model-00002-of-00002.safetensors"), "{}", run().1);
    // A weight that is not a number must become an error, not text.
    let mut poisoned = whole.clone();
    let header = usize::from_le_bytes(poisoned[..8].try_into().expect("length"));
    let tensors: Value = serde_json::from_slice(&poisoned[8..8 + header]).expect("header");
    let offset = tensors["model.norm.weight"]["data_offsets"][0].as_u64().expect("offset");
    let at = 8 + header + usize::try_from(offset).expect("offset");
    poisoned[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
    std::fs::write(&shard, poisoned).expect("poison");
    let (code, message) = run();
    assert_eq!(code, Some(1));
    assert!(message.contains("not finite"), "{message}");
    std::fs::write(&shard, whole).expect("restore");

    let config = model.join("config.json");
    let text = std::fs::read_to_string(&config).expect("config");
    std::fs::write(&config, text.replace("LlamaForCausalLM", "MambaForCausalLM")).expect("config");
    assert!(run().1.contains("MambaForCausalLM"), "{}", run().1);
    std::fs::write(&config, text.replace("\"hidden_size\": 384", "\"hidden_size\": 512"))
        .expect("config");
    let message = run().1;
    assert!(message.contains("384") && message.contains("512"), "{message}");
}

/// Exit code and stderr, whichever they are.
trait CloneStatus {
    fn clone_status(&mut self) -> (Option<i32>, String);
}

impl CloneStatus for Command {
    fn clone_status(&mut self) -> (Option<i32>, String) {
        let output = self.output().expect("run");
        (output.status.code(), text(&output.stderr))
    }
}

#[test]
fn batch_writes_results_resumes_and_survives_bad_lines() {
    let dir = TempDir::new().expect("dir");
    let head = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n";
    let tail = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    let sample = |index: i64| {
        serde_json::json!({
            "index": index,
            "input_context": format!("{head}{}", document()),
            "input_query": format!("\n\n{QUESTION}{tail}"),
            "outputs": ["48213"],
        })
        .to_string()
    };
    let input = format!("{}\n{{\"input_context\": 5}}\n{}\n", sample(10), sample(11));
    let input = file(&dir, "in.jsonl", input);
    let output = dir.path().join("out.jsonl");
    let run = |extra: &[&str]| {
        let mut command = asterism();
        command.arg("batch").args([&input, &output]).args(["--block", "256"]).args(extra);
        command.clone_status()
    };
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&output).expect("output");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let (code, message) = run(&["--top-logits", "3"]);
    assert_eq!(code, Some(1), "a bad line makes the run fail: {message}");
    assert!(message.contains("line 2") && message.contains("2 written"), "{message}");
    let first = lines();
    assert_eq!(first.len(), 2);
    assert!(first[0]["pred"].as_str().expect("pred").contains("48213"));
    assert_eq!(first[0]["outputs"], serde_json::json!(["48213"]));
    let top = first[0]["top_logits"].as_array().expect("logits");
    assert_eq!(top.len(), 3);
    assert_eq!(top[0][0], first[0]["token_ids"][0], "greedy takes the largest logit");

    // As if the run had been stopped in the middle of writing the second result.
    let text = std::fs::read_to_string(&output).expect("output");
    std::fs::write(&output, &text[..text.len() - 20]).expect("truncate");
    let (_, message) = run(&["--top-logits", "3"]);
    assert!(message.contains("1 written, 1 already there, 1 failed"), "{message}");
    assert_eq!(lines()[1]["token_ids"], first[1]["token_ids"]);

    std::fs::remove_file(&output).expect("remove");
    run(&["--ignore-eos", "--max-tokens", "40"]);
    assert_eq!(lines()[0]["token_ids"].as_array().expect("ids").len(), 40);
    assert_eq!(lines()[0]["sources"], Value::Null);

    std::fs::remove_file(&output).expect("remove");
    run(&["--sources", "--anchor", "64"]);
    let passage = &lines()[0]["sources"][0]["passage"];
    assert!(passage.as_str().expect("passage").contains("48213"), "{passage}");

    std::fs::write(&output, "my notes\n").expect("write");
    let (code, message) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(message.contains("no result of batch"), "{message}");
    assert_eq!(std::fs::read_to_string(&output).expect("output"), "my notes\n");
}

/// A copy of nano's folder.
fn nano_folder(dir: &TempDir) -> PathBuf {
    let model = dir.path().join("model");
    std::fs::create_dir(&model).expect("dir");
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    for entry in std::fs::read_dir(&nano).expect("nano") {
        let path = entry.expect("entry").path();
        std::fs::copy(&path, model.join(path.file_name().expect("name"))).expect("copy");
    }
    model
}

/// Without a chat template a prompt begins with the token of `tokenizer_config.json`, or with none.
#[test]
fn plan_counts_the_tokens_that_ask_encodes() {
    let dir = TempDir::new().expect("dir");
    let context = file(&dir, "a.txt", document());
    let model = nano_folder(&dir);
    let mut counts = Vec::new();
    for config in [r#"{"bos_token": "<|begin_of_text|>"}"#, r#"{"add_bos_token": false}"#] {
        std::fs::write(model.join("tokenizer_config.json"), config).expect("write");
        let run = |args: &[&str]| -> Value {
            let mut command = asterism();
            command.args(args).arg("--model").arg(&model).arg("--context").arg(&context);
            serde_json::from_str(&succeed(command.arg("--json")).0).expect("JSON")
        };
        let asked = &run(&["ask", "--max-tokens", "1", "Why?"])["timings"]["context_tokens"];
        assert_eq!(run(&["plan"])["tokens"], *asked, "{config}");
        counts.push(asked.as_u64().expect("a count"));
    }
    assert_eq!(counts[0], counts[1] + 1);
}

#[test]
fn plan_needs_no_weights() {
    let dir = TempDir::new().expect("dir");
    let model = nano_folder(&dir);
    for entry in std::fs::read_dir(&model).expect("folder") {
        let path = entry.expect("entry").path();
        if path.to_string_lossy().contains("safetensors") {
            std::fs::remove_file(path).expect("remove");
        }
    }
    let plan = |model: &Path| {
        succeed(asterism().args(["plan", "--json", "--tokens", "64k", "--model"]).arg(model)).0
    };
    let (bare, built_in) = (plan(&model), plan(Path::new("nano")));
    let methods =
        |json: &str| serde_json::from_str::<Value>(json).expect("JSON")["methods"].clone();
    assert_eq!(methods(&bare), methods(&built_in));
}

#[test]
fn patterns_answer_and_say_what_they_kept() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    for how in [
        "--method streaming:sink=128:window=512",
        "--method flexprefill:gamma=0.9:min=128",
        "--method xattention:stride=16",
        "--method star --block 1k --anchor 256 --hosts 2 --sparse minference:vertical=64:slash=64",
    ] {
        let words = || how.split(' ');
        let (out, err) = succeed(ask(&path).args(words()).arg(QUESTION));
        assert!(out.contains("48213"), "{how}: {out}");
        assert!(err.contains("density") && err.contains("kept mass"), "{how}: {err}");
        let (out, _) = succeed(ask(&path).args(words()).args(["--json", QUESTION]));
        let timings = &serde_json::from_str::<Value>(out.trim()).expect("JSON")["timings"];
        let share = |name: &str| timings[name].as_f64().expect("a share");
        assert!(share("density") > 0.0 && share("density") <= 1.1, "{how}: {timings}");
        assert!(share("kept_mass") > 0.5 && share("kept_mass") <= 1.0, "{how}: {timings}");
    }
    let refused = |how: &str| fail(ask(&path).args(how.split(' ')).arg(QUESTION), 2);
    let error = refused("--method xattention --hosts 2");
    assert!(error.contains("one host, not on 2"), "{error}");
    assert!(refused("--method xattention:stride=3").contains("1, 2, 4"));
    assert!(refused("--method dense --sparse xattention").contains("star's blocks"));
    let (plan, _) = succeed(asterism().args(["plan", "--tokens", "64k"]));
    assert!(plan.contains("xattention") && plan.contains(" to "), "{plan}");
}

#[test]
fn plan_shows_every_method_and_its_json_adds_up() {
    let args = ["plan", "--tokens", "128k", "--hosts", "4", "--block", "16k", "--anchor", "4k"];
    let (out, _) = succeed(asterism().args(args));
    for word in ["star", "ring", "zigzag", "dense", "32768..65536", "warning"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let (out, _) = succeed(asterism().args(args).arg("--json"));
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    let methods = plan["methods"].as_array().expect("methods");
    for method in methods {
        let hosts = method["per_host"].as_array().expect("hosts");
        let spans = hosts.iter().flat_map(|h| h["spans"].as_array().expect("spans"));
        let tokens: u64 =
            spans.map(|s| s[1].as_u64().expect("end") - s[0].as_u64().expect("start")).sum();
        assert_eq!(tokens, 131_072);
    }
    let flop = |i: usize| methods[i]["total_flop"].as_u64().expect("flop");
    assert!(flop(0) < flop(1) && flop(1) == flop(2) && flop(2) == flop(3));
}

#[test]
fn doctor_and_completions_work() {
    let (out, _) = succeed(asterism().arg("doctor"));
    assert!(out.contains("self-test") && out.contains("ok in") && out.contains("48213"), "{out}");
    let (out, _) = succeed(asterism().args(["doctor", "--json"]));
    let facts: Value = serde_json::from_str(&out).expect("JSON");
    assert!(facts["cores"].is_string());
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeed(asterism().args(["completions", shell])).0.contains("asterism"));
    }
}

/// Where there is no GPU, asking for one is refused with what is missing, and `auto` says nothing
/// of it; where there is one, both use it.
#[test]
#[cfg(feature = "cuda")]
fn devices_are_chosen_found_or_named() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    let gpu = asterism::tensor::cuda::Device::count();
    let (out, err) = succeed(ask(&path).args(["--device", "auto", QUESTION]));
    assert!(out.contains("48213") && !err.contains("warning"), "{out} {err}");
    let (facts, _) = succeed(asterism().args(["doctor", "--device", "cpu"]));
    assert!(facts.contains("NVRTC") && facts.contains("computing on") && facts.contains("thread"));
    match gpu {
        Ok(count) => {
            let (out, _) = succeed(ask(&path).args(["--device", "cuda:0", QUESTION]));
            assert!(out.contains("48213"), "{out}");
            let beyond = format!("cuda:{count}");
            let err = fail(ask(&path).args(["--device", beyond.as_str(), QUESTION]), 2);
            assert!(err.contains(&format!("no GPU {count}")), "{err}");
            assert!(facts.contains("cuda:0: "), "{facts}");
        }
        Err(why) => {
            let err = fail(ask(&path).args(["--device", "cuda:0", QUESTION]), 1);
            assert!(err.contains(&why.to_string()), "{err}");
            assert!(facts.contains("none: "), "{facts}");
        }
    }
    let err = fail(ask(&path).args(["--device", "gpu", QUESTION]), 2);
    assert!(err.contains("cuda:N"), "{err}");
    let err = fail(ask(&path).args(["--device", "cpu", "--kv-dtype", "fp8", QUESTION]), 2);
    assert!(err.contains("cache them in bf16") && err.contains("--kv-dtype"), "{err}");
    let (out, _) = succeed(asterism().args(["plan", "--tokens", "64k", "--kv-dtype", "fp8"]));
    assert!(out.contains("on one GPU: "), "{out}");
    // Which no GPU keeps.
    let (out, _) = succeed(asterism().args(["plan", "--tokens", "64k", "--kv-dtype", "int8"]));
    assert!(!out.contains("on one GPU"), "{out}");
    let (out, _) = succeed(ask(&path).args(["--device", "cpu", "--kv-dtype", "int8", QUESTION]));
    assert!(out.contains("48213"), "{out}");
}

#[test]
fn settings_come_from_the_environment_and_arguments_win() {
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document());
    let run = |extra: &[&str]| {
        let mut command = ask(&path);
        command.env("ASTERISM_METHOD", "ring").env("ASTERISM_HOSTS", "2");
        succeed(command.args(extra).arg(QUESTION)).1
    };
    assert!(run(&[]).contains("ring x 2 hosts"));
    assert!(run(&["--method", "dense"]).contains("dense x 2 hosts"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_at_once_with_its_own_exit_code() {
    use std::io::Read;
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    let dir = TempDir::new().expect("dir");
    let path = file(&dir, "a.txt", document().repeat(60));
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("asterism"))
        .args(["ask", "--hosts", "2", "--context"])
        .arg(&path)
        .arg(QUESTION)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start");
    // Long enough to be encoding, far too short to have finished.
    std::thread::sleep(Duration::from_secs(3));
    let start = Instant::now();
    let pid = child.id().to_string();
    let kill = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill");
    assert!(kill.success());
    let status = child.wait().expect("wait");
    let mut message = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut message).expect("read");
    assert_eq!(status.code(), Some(130), "{message}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(message.contains("interrupted"), "{message}");
}
