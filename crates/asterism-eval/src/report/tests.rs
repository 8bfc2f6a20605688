//! The report of made-up answers.

use super::*;
use crate::run::{MachineInfo, MethodInfo, ModelInfo, Record, RunInfo, Timings, path};
use crate::{Benchmark, Metric, TaskInfo};
use serde_json::json;
use std::collections::BTreeMap;

const TASKS: [&str; 5] = ["niah_single_1", "niah_multikey_3", "vt", "cwe", "qa_1"];
const METHODS: [&str; 4] =
    ["dense", "star:block=1/4", "star:block=1/8", "star:block=1/4:anchor=none"];

/// Writes a run whose scores fall with length and with the method's number.
pub(crate) fn write_run(dir: &Path, lengths: &[usize], samples: usize) {
    let task = |name: &&str| TaskInfo {
        name: (*name).to_owned(),
        benchmark: Benchmark::Ruler,
        tokens_to_generate: 30,
        metric: Metric::StringMatchAll,
    };
    let method =
        |name: &&str| MethodInfo { name: (*name).to_owned(), baseline: **name == *"dense" };
    let info = RunInfo {
        asterism: "0.1.0".into(),
        benchmark: Benchmark::Ruler,
        model: ModelInfo {
            name: "nano".into(),
            hash: "0123456789abcdef".into(),
            tokenizer_hash: "fedcba9876543210".into(),
            precision: "bf16".into(),
            max_positions: 131_072,
        },
        settings: [
            ("variant", json!("star-paper")),
            ("template", json!("llama3")),
            ("seed", json!(42)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect(),
        lengths: lengths.to_vec(),
        tasks: TASKS.iter().map(task).collect(),
        methods: METHODS.iter().map(method).collect(),
        samples,
        left_out: [("qa_2".to_owned(), "no file".to_owned())].into(),
        notes: Vec::new(),
        failures: BTreeMap::new(),
        machines: vec![MachineInfo {
            processor: "a processor".into(),
            system: "linux x86_64".into(),
            cores: 2,
            computing_on: "2 threads, avx2".into(),
            memory: Some(16_000_000_000),
        }],
    };
    info.begin(dir).unwrap();
    for (l, &length) in lengths.iter().enumerate() {
        for (t, task) in TASKS.iter().enumerate() {
            for (m, method) in METHODS.iter().enumerate() {
                let file = path(dir, length, task, method);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                let lines: Vec<String> = (0..samples)
                    .map(|index| {
                        // Without an anchor most is lost.
                        let loss = 3 * l + t + 4 * m * m;
                        let right = (index * 37 + t * 11) % 100 >= loss;
                        record(index, right, length, m, task)
                    })
                    .map(|record| serde_json::to_string(&record).unwrap() + "\n")
                    .collect();
                std::fs::write(file, lines.concat()).unwrap();
            }
        }
    }
}

fn record(index: usize, right: bool, length: usize, method: usize, task: &str) -> Record {
    let mut extra = serde_json::Map::new();
    if task.starts_with("niah") {
        extra.insert("depths".into(), json!([(index % 40) as f64 / 39.0]));
    }
    let seconds = length as f64 / 10_000.0;
    Record {
        index,
        pred: if right { "The code is 1234.".into() } else { String::new() },
        outputs: vec!["1234".into()],
        score: match (task == "cwe", right) {
            (true, true) => 0.9,
            (true, false) => 0.3,
            _ => f64::from(right),
        },
        sample: format!("{index:016x}"),
        machine: Some(0),
        timings: Timings {
            phase1_s: seconds / (1.0 + method as f64 * (length as f64 / 4096.0).ln_1p() * 0.3),
            // The last keeps half.
            kv_bytes: length as u64 * if method == 3 { 512 } else { 1024 },
            ..Timings::default()
        },
        extra,
    }
}

#[test]
fn the_numbers_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &[4096, 16_384], 50);
    let results = Results::read(dir.path()).unwrap();
    let at = &results.lengths[0];
    let (dense, none) = (at.mean[0].unwrap(), at.mean[3].unwrap());
    assert_eq!((dense.tasks, dense.score.n, dense.difference), (5, 250, None));
    assert_eq!(none.difference.unwrap().verdict(), "worse");
    assert!(none.speedup.unwrap() > 1.5);
    assert!(dense.total_s.unwrap() > 1.5 * none.total_s.unwrap());
    assert_eq!((dense.kv_share, none.kv_share), (Some(1.0), Some(0.5)));
    // Only tasks of needles count for the map, and every needle once per method and length.
    assert_eq!(results.needles.len(), 2 * 50 * 4 * 2);
}

#[test]
fn the_report_says_what_it_said_before() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &[4096, 16_384], 20);
    let report = Report::of(&Results::read(dir.path()).unwrap()).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/snapshot.md");
    if std::env::var_os("ASTERISM_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &report.markdown).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(
        report.markdown == expected,
        "run with ASTERISM_UPDATE_SNAPSHOTS=1 and look at the difference: {}",
        report.markdown
    );
}

#[test]
fn the_page_needs_nothing_else_and_pictures_name_everything() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &[4096, 16_384, 65_536, 131_072], 50);
    let report = Report::of(&Results::read(dir.path()).unwrap()).unwrap();
    for outside in ["http://", "https://", "src=", "<link", "<script", "@import", "url("] {
        let namespaces = report.html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
        let allowed = if outside == "http://" { namespaces } else { 0 };
        assert_eq!(report.html.matches(outside).count(), allowed, "{outside}");
    }
    let names: Vec<_> = report.pictures.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["score.svg", "tradeoff.svg", "time.svg", "memory.svg", "depth.svg", "tasks.svg"]
    );
    for (name, svg) in &report.pictures {
        assert!(svg.contains("128K") && svg.contains("star:block=1/8"), "{name}");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count(), "{name}");
    }
    if let Some(out) = std::env::var_os("ASTERISM_SHOW_REPORT") {
        std::fs::create_dir_all(&out).unwrap();
        report.write(Path::new(&out)).unwrap();
    }
}

#[test]
fn a_run_that_has_only_begun_has_a_report() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &[4096], 0);
    let report = Report::of(&Results::read(dir.path()).unwrap()).unwrap();
    assert!(report.markdown.contains("No sample has been answered yet"));

    write_run(dir.path(), &[4096], 1);
    std::fs::remove_file(path(dir.path(), 4096, "vt", "star:block=1/8")).unwrap();
    let report = Report::of(&Results::read(dir.path()).unwrap()).unwrap();
    assert!(report.markdown.contains("4 of 5 tasks"), "{}", report.markdown);
}

#[test]
fn a_folder_without_a_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Results::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("run.json"), "{error}");
}

#[test]
fn points_have_one_digit_and_a_sign() {
    assert_eq!((points(0.8425), points(1.0)), ("84.2".to_owned(), "100.0".to_owned()));
    let signed = [0.0131, -0.004, -0.0001].map(signed_points);
    assert_eq!(signed, ["+1.3", "−0.4", "0.0"]);
}
