//! The runner, with a stand-in for the engine that answers at once.

use super::*;
use crate::{Benchmark, Metric};
use asterism::model::ModelFiles;
use asterism::plan::Method as PlanMethod;
use asterism::tensor::Bytes;
use asterism::text::Prompt;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers with what the query asks for, or with nothing by star; raises `cancel` after some.
struct Echo {
    answered: AtomicUsize,
    stop_after: usize,
    cancel: Cancel,
}

impl Echo {
    fn new(stop_after: usize) -> Self {
        Self { answered: AtomicUsize::new(0), stop_after, cancel: Cancel::new() }
    }
}

impl Answer for Echo {
    fn tokens(&self, sample: &Sample) -> Result<Prompt, EngineError> {
        if sample.input_context.is_empty() {
            return Err(EngineError::EmptyQuery);
        }
        Ok(Prompt { context: vec![1; 100], query: vec![sample.index as u32] })
    }

    fn answer(
        &self,
        prompt: &Prompt,
        plan: PlanSpec,
        _: usize,
        on_work: &(dyn Fn(u64) + Sync),
        cancel: &Cancel,
    ) -> Result<(String, Timings), EngineError> {
        if self.answered.fetch_add(1, Ordering::Relaxed) == self.stop_after {
            self.cancel.raise();
        }
        if cancel.is_raised() {
            return Err(EngineError::Cancelled);
        }
        on_work(10);
        let text = match plan.method {
            PlanMethod::Star(_) => String::new(),
            _ => format!("  number {}<|stop|> and more", prompt.query[0]),
        };
        Ok((text, Timings { phase1_s: 0.5, ..Timings::default() }))
    }

    fn work(&self, _: PlanSpec, _: usize, _: usize) -> u64 {
        10
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn push(&self, word: &str, step: &Step<'_>) {
        self.0.lock().unwrap().push(format!("{word} {} {}", step.method, step.index));
    }
}

impl Observer for Log {
    fn skip(&self, step: &Step<'_>) {
        self.push("skip", step);
    }
    fn end(&self, step: &Step<'_>, _: &Record) {
        self.push("end", step);
    }
    fn fail(&self, step: &Step<'_>, _: &Failure) {
        self.push("fail", step);
    }
}

fn task() -> TaskInfo {
    TaskInfo {
        name: "niah".into(),
        benchmark: Benchmark::Ruler,
        tokens_to_generate: 8,
        metric: Metric::StringMatchAll,
    }
}

fn samples(count: usize) -> Vec<Sample> {
    let sample = |index| Sample {
        index,
        input_context: format!("context {index}"),
        input_query: "query".into(),
        outputs: vec![format!("number {index}")],
        length: 100,
        extra: serde_json::Map::new(),
    };
    (0..count).map(sample).collect()
}

/// Runs `samples` by dense and star into `dir`; returns what happened.
fn run(
    dir: &Path,
    echo: &Echo,
    samples: &[Sample],
) -> (Result<Vec<Failure>, RunError>, Vec<String>) {
    let dense = |_: usize| PlanSpec::dense();
    let star = |length: usize| PlanSpec::star(length / 4).hosts(1);
    let methods = [
        Method { name: "dense".into(), plan: &dense },
        Method { name: "star:block=1/4".into(), plan: &star },
    ];
    let log = Log::default();
    let runner = Runner {
        dir,
        answer: echo,
        methods: &methods,
        most: samples.len(),
        machine: Some(0),
        stop_words: &["<|stop|>".to_owned()],
        observer: &log,
        cancel: &echo.cancel,
    };
    let task = task();
    let result = runner.run(&Group { length: 128, task: &task, samples });
    (result, log.0.into_inner().unwrap())
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (stopped, log) = run(dir.path(), &Echo::new(3), &samples(3));
    assert!(matches!(stopped, Err(RunError::Cancelled)));
    assert_eq!(log, ["end dense 0", "end star:block=1/4 0", "end dense 1"]);

    // As if the power had gone while a line was written.
    let star = path(dir.path(), 128, "niah", "star:block=1/4");
    assert!(star.ends_with("128/niah/star,block=1of4.jsonl"), "{star:?}");
    let mut text = std::fs::read_to_string(&star).unwrap();
    text.push_str("{\"index\":1,\"pred\":\"num");
    std::fs::write(&star, text).unwrap();

    let (finished, log) = run(dir.path(), &Echo::new(99), &samples(3));
    assert_eq!(finished.unwrap(), []);
    let expected = [
        "skip dense 0",
        "skip star:block=1/4 0",
        "skip dense 1",
        "end star:block=1/4 1",
        "end dense 2",
        "end star:block=1/4 2",
    ];
    assert_eq!(log, expected);
    let dense = read(&path(dir.path(), 128, "niah", "dense")).unwrap();
    let summary: Vec<_> = dense.iter().map(|r| (r.index, r.pred.as_str(), r.score)).collect();
    assert_eq!(summary, [(0, "number 0", 1.0), (1, "number 1", 1.0), (2, "number 2", 1.0)]);
    let star = read(&star).unwrap();
    assert_eq!(star.iter().map(|r| r.score).collect::<Vec<_>>(), [0.0; 3]);
    assert_eq!(star[0].sample, dense[0].sample);
}

#[test]
fn one_bad_sample_does_not_lose_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = samples(3);
    all[1].input_context.clear();
    let (result, log) = run(dir.path(), &Echo::new(99), &all);
    let failures = result.unwrap();
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[0].what, "128/niah/dense.jsonl, sample 1");
    assert!(failures[0].reason.contains("empty"), "{}", failures[0].reason);
    assert_eq!(log.iter().filter(|line| line.starts_with("end")).count(), 4);
}

#[test]
fn other_samples_do_not_mix_with_earlier_results() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &Echo::new(99), &samples(2)).0.unwrap();
    let mut changed = samples(2);
    changed[1].input_context.push('!');
    let error = run(dir.path(), &Echo::new(99), &changed).0.unwrap_err();
    assert!(matches!(error, RunError::OtherSample { index: 1, .. }), "{error}");
    // More samples of the same set are welcome.
    let (_, log) = run(dir.path(), &Echo::new(99), &samples(3));
    assert_eq!(log[4..], ["end dense 2", "end star:block=1/4 2"]);
}

/// Every line below is JSON of the right form; what it says cannot be.
#[test]
fn results_that_no_run_writes_are_refused_with_their_line() {
    let lie = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &Echo::new(99), &samples(3)).0.unwrap();
        let file = path(dir.path(), 128, "niah", "dense");
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        change(&mut lines);
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let before = std::fs::read(&file).unwrap();
        let error = run(dir.path(), &Echo::new(99), &samples(3)).0.unwrap_err().to_string();
        assert_eq!(std::fs::read(&file).unwrap(), before);
        error
    };
    for score in [5.0, 1e308, -0.5] {
        let error = lie(&|lines| lines[1]["score"] = score.into());
        assert!(error.contains("dense.jsonl:2: a score of"), "{error}");
    }
    let error = lie(&|lines| lines[2]["score"] = 0.25.into());
    assert!(error.contains("sample 2 has the score 0.25") && error.contains("earns 1"), "{error}");
    let error = lie(&|lines| lines[2]["timings"]["query_s"] = (-1.0).into());
    assert!(error.contains("dense.jsonl:3: a time of -1"), "{error}");
    let error = lie(&|lines| lines.push(lines[0].clone()));
    assert!(error.contains("dense.jsonl:4: sample 0 is already answered in line 1"), "{error}");
    let error = lie(&|lines| lines[1]["index"] = 2.into());
    assert!(error.contains("dense.jsonl:3: sample 2 is already answered"), "{error}");
    // Of an index beyond every sample ever asked for.
    let error = lie(&|lines| lines[1]["index"] = u64::MAX.into());
    assert!(error.contains("sample 18446744073709551615"), "{error}");
}

#[test]
fn a_file_that_is_no_result_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), 128, "niah", "dense");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "my notes\nand more\n").unwrap();
    let message = run(dir.path(), &Echo::new(99), &samples(1)).0.unwrap_err().to_string();
    assert!(message.contains("dense.jsonl:1"), "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "my notes\nand more\n");
}

#[test]
fn impossible_lengths_and_plans_are_refused_before_work() {
    let tiny = |length: usize| PlanSpec::star(length / 64).hosts(1);
    let methods = [Method { name: "star:block=1/64".into(), plan: &tiny }];
    let message = check(&methods, &[4096, 8193], 8192).unwrap_err().to_string();
    assert!(message.contains("8193") && message.contains("8192"), "{message}");
    let message = check(&methods, &[4096, 512], 8192).unwrap_err().to_string();
    assert!(message.contains("star:block=1/64 at length 512"), "{message}");
    assert!(check(&methods, &[4096], 8192).is_ok());
}

fn info(settings: &[(&str, &str)]) -> RunInfo {
    RunInfo {
        asterism: "1".into(),
        benchmark: Benchmark::Ruler,
        model: ModelInfo {
            name: "m".into(),
            hash: "1".into(),
            tokenizer_hash: "2".into(),
            precision: "bf16".into(),
            max_positions: 100,
        },
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect(),
        lengths: vec![64],
        tasks: vec![task()],
        methods: vec![MethodInfo { name: "dense".into(), baseline: true }],
        samples: 5,
        notes: Vec::new(),
        left_out: BTreeMap::new(),
        failures: BTreeMap::new(),
        machines: Vec::new(),
    }
}

#[test]
fn a_run_may_grow_but_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = info(&[("variant", "clean")]).begin(dir.path()).unwrap();
    assert_eq!(RunInfo::read(dir.path()).unwrap(), first);

    let mut more = first.clone();
    more.lengths = vec![32];
    more.methods = vec![MethodInfo { name: "ring".into(), baseline: true }];
    more.samples = 3;
    let (grown, _) = more.begin(dir.path()).unwrap();
    assert_eq!((grown.lengths, grown.samples), (vec![32, 64], 5));
    let names: Vec<_> = grown.methods.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(names, ["dense", "ring"]);

    // A file that more tasks need may be added, and stays; it may not be exchanged.
    let with = |file| info(&[("variant", "clean"), ("squad", file)]).begin(dir.path());
    with("a.json").unwrap();
    let (kept, _) = info(&[("variant", "clean")]).begin(dir.path()).unwrap();
    assert_eq!(kept.settings["squad"], "a.json");
    assert!(with("b.json").unwrap_err().to_string().contains("squad"));

    // What fails is kept until the same task is asked again.
    let failure = Failure { what: "vt".into(), reason: "no room".into() };
    first.failed(dir.path(), (64, "vt"), &[failure]).unwrap();
    first.failed(dir.path(), (32, "vt"), &[]).unwrap();
    let (mut again, _) = info(&[("variant", "clean")]).begin(dir.path()).unwrap();
    assert_eq!(again.failures["64/vt"], ["vt: no room"]);
    again.failed(dir.path(), (64, "vt"), &[]).unwrap();
    assert!(RunInfo::read(dir.path()).unwrap().failures.is_empty());

    // A task that is asked after all is no longer left out.
    let mut without = info(&[("variant", "clean")]);
    without.left_out = ["qa_1", "niah"].map(|task| (task.to_owned(), "why".to_owned())).into();
    let names: Vec<String> = without.begin(dir.path()).unwrap().0.left_out.into_keys().collect();
    assert_eq!(names, ["qa_1"], "{} is asked", task().name);

    let error = info(&[("variant", "star-paper")]).begin(dir.path()).unwrap_err().to_string();
    for word in ["variant", "clean", "star-paper", "run.json"] {
        assert!(error.contains(word), "{error}");
    }
    let mut other = info(&[("variant", "clean")]);
    other.model.tokenizer_hash = "3".into();
    let error = other.begin(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer hash"), "{error}");
}

#[test]
fn a_model_is_known_by_its_weights() {
    let of = |weights: Vec<u8>| {
        let files = ModelFiles {
            name: "m".into(),
            config: b"{}".to_vec(),
            generation_config: None,
            tokenizer: b"{}".to_vec(),
            tokenizer_config: None,
            chat_template: None,
            weights: vec![("model.safetensors".into(), Bytes::from(weights))],
            weight_index: None,
        };
        ModelInfo::of(&files, "bf16", 100).hash
    };
    for len in [1, 10, 4096 * 64 + 1, 1 << 20] {
        assert_eq!(of(vec![0; len]), of(vec![0; len]), "{len}");
        assert_ne!(of(vec![0; len]), of(vec![1; len]), "{len}");
        assert_ne!(of(vec![0; len]), of(vec![0; len + 1]), "{len}");
    }
}
