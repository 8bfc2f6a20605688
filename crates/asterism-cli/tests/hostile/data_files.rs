//! Files of prompts, of results and of samples, and documents.

use crate::case::{Case, Entry, Expect, nano};
use crate::mutate::{self, Dice};
use serde_json::json;
use std::path::Path;

const BATCH: [&str; 9] = [
    "batch",
    "{}/in.jsonl",
    "{}/out.jsonl",
    "--max-tokens",
    "1",
    "--device",
    "cpu",
    "--block",
    "64",
];

fn sample(dice: &mut Dice, index: usize) -> serde_json::Value {
    let context = "The grass is green. ".repeat(1 + dice.below(8));
    json!({"index": index, "input_context": context, "input_query": "Is it?", "outputs": ["yes"]})
}

/// Inputs of batch, line by line.
pub(crate) fn prompts(dice: &mut Dice, count: usize) -> Vec<Case> {
    let make = |_| {
        let mut text = Vec::new();
        let mut name = String::new();
        for line in 0..=dice.below(3) {
            let sound = sample(dice, line);
            let (what, bytes) = match dice.below(3) {
                0 => (String::new(), sound.to_string().into_bytes()),
                _ => mutate::json_file(dice, &sound),
            };
            name += &format!("{what};");
            text.extend(bytes);
            text.extend(dice.pick(&["\n", "\n", "\r\n", "\n\n", ""]).bytes());
        }
        Case::new("JSONL prompts", name, &BATCH).bytes("in.jsonl", text)
    };
    (0..count).map(make).collect()
}

/// Outputs of batch that are somebody else's.
pub(crate) fn results(dice: &mut Dice, count: usize) -> Vec<Case> {
    let make = |_| {
        let mut text = String::new();
        for line in 0..dice.below(3) {
            text += &match dice.below(3) {
                0 => format!("{{\"index\":{line},\"pred\":\"mine\"}}\n"),
                1 => "notes\n".to_owned(),
                _ => format!("{}\n", mutate::odd_value(dice)),
            };
        }
        text += *dice.pick(&[
            "precious",
            "[1",
            "{\"index\": 1",
            "{\"index\":1,\"pred\":\"",
            "{\"a\":",
            "\u{feff}",
            "\0\0\0\0",
            "1",
            "\"x",
            "{\"index\":1,\"prompt\":\"zz",
            "{\"index\":1,\"prompt\":\"0123456789abcdef\",\"rum\"",
            "null",
            "{}",
            "{\"prompt\":1,\"index\":1}",
        ]);
        let prompts: String = (0..2).map(|i| sample(dice, i).to_string() + "\n").collect();
        let mut case = Case::new("results of others", format!("{text:.120?}"), &BATCH);
        case = case.bytes("in.jsonl", prompts).bytes("out.jsonl", text).refused(&["out.jsonl"]);
        case.untouched = vec!["in.jsonl".to_owned(), "out.jsonl".to_owned()];
        case
    };
    (0..count).map(make).collect()
}

/// Tables of samples.
pub(crate) fn tables(dice: &mut Dice, count: usize) -> Vec<Case> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../asterism-eval/tests/golden/eval/tables");
    let names = ["snappy", "zstd", "second", "plain", "required", "odd", "missing", "lists"];
    let args = [
        "eval",
        "babilong",
        "--lengths",
        "1k",
        "--tasks",
        "qa1",
        "--samples",
        "1",
        "--methods",
        "dense",
        "--device",
        "cpu",
        "--data",
        "{}/data",
        "--out",
        "{}/out",
    ];
    let make = |i: usize| {
        let table = *dice.pick(&names);
        let sound = std::fs::read(folder.join(format!("{table}.parquet"))).expect("table");
        let (name, bytes) = match (i % 4, dice.below(6)) {
            // A description of our own behind nothing.
            (0, kind) => {
                let levels = 1 + dice.below(3_000_000);
                let body = match kind {
                    0 => vec![0x19; levels],
                    1 => [vec![0x1b], [1, 0xbb].repeat(levels / 2)].concat(),
                    2 => vec![0x1c; levels],
                    3 => [vec![0x19, 0xfc, 0xff, 0xff, 0xff, 0x0f], vec![0; levels]].concat(),
                    4 => [vec![0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], vec![b'a'; levels]]
                        .concat(),
                    _ => (0..levels.min(5000)).map(|_| dice.below(256) as u8).collect(),
                };
                let length = (body.len() as u32).to_le_bytes();
                (
                    format!("description {kind} of {levels}"),
                    [b"PAR1", &body[..], &length, b"PAR1"].concat(),
                )
            }
            // Changes within the description.
            (1, _) => {
                let end = sound.len() - 8;
                let length =
                    u32::from_le_bytes(sound[end..end + 4].try_into().expect("length")) as usize;
                let (name, foot) = mutate::bytes(dice, &sound[end - length..end]);
                let size = (foot.len() as u32).to_le_bytes();
                (
                    format!("{table} foot{name}"),
                    [&sound[..end - length], &foot, &size, b"PAR1"].concat(),
                )
            }
            _ => {
                let (name, bytes) = mutate::bytes(dice, &sound);
                (format!("{table}{name}"), bytes)
            }
        };
        Case::new("Parquet", name, &args).bytes("data/data/qa1/1k.parquet", bytes)
    };
    (0..count).map(make).collect()
}

/// Documents.
pub(crate) fn documents() -> Vec<Case> {
    let ask = ["ask", "-c", "{}/doc.txt", "--max-tokens", "1", "--device", "cpu", "q"];
    let case = |name: &str| Case::new("documents", name, &ask);
    let text = "The sky is blue. ";
    // Cut into tokens, and not encoded: that takes its time, and is no hang.
    let plan = |name: &str, text: String| {
        Case::new("documents", name, &["plan", "-c", "{}/doc.txt"])
            .bytes("doc.txt", text)
            .expect(Expect::Accepted)
    };
    vec![
        case("20 MB").bytes("doc.txt", text.repeat(1_200_000)).refused(&[
            "doc.txt",
            "131,072",
            "20,400,000",
        ]),
        case("100 GB, sparse").with("doc.txt", Entry::Sparse(100 << 30)).refused(&["doc.txt"]),
        case("4 GB, sparse").with("doc.txt", Entry::Sparse(4 << 30)).refused(&["doc.txt"]),
        case("no UTF-8").bytes("doc.txt", b"ab\xff".to_vec()).expect(Expect::Accepted),
        case("no text").bytes("doc.txt", b"ab\0".to_vec()).refused(&["byte 2"]),
        case("a mark").bytes("doc.txt", format!("\u{feff}{text}")).expect(Expect::Accepted),
        case("only a mark").bytes("doc.txt", "\u{feff}").refused(&["empty"]),
        case("zeros").bytes("doc.txt", vec![0; 2000]).refused(&["byte 0"]),
        case("spaces").bytes("doc.txt", " ".repeat(2_000_000)).refused(&["empty"]),
        case("one word").bytes("doc.txt", "a".repeat(4_000)).expect(Expect::Either),
        case("commands")
            .bytes("doc.txt", "\u{1b}[2J<|eot_id|>".repeat(500))
            .expect(Expect::Accepted),
        plan("a long word", "a".repeat(1_000_000)),
        plan("long spaces", format!("a{}b", " ".repeat(1_000_000))),
        plan("long lines", "\n".repeat(1_000_000) + "b"),
        case("nothing").bytes("doc.txt", "").refused(&["empty"]),
    ]
}

/// Numbers that no setting has.
pub(crate) fn arguments(dice: &mut Dice, count: usize) -> Vec<Case> {
    let numbers = [
        "0",
        "-1",
        "1",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775807",
        "16777216m",
        "1024m",
        "1025m",
        "NaN",
        "inf",
        "-inf",
        "1e308",
        "0.0000001",
        "",
        " ",
        "\u{1b}[2J",
        "4294967295",
        "99999999999999999999999999",
        "0x10",
        "1k",
        "k",
    ];
    let options = [
        "--max-tokens",
        "--block",
        "--anchor",
        "--hosts",
        "--temperature",
        "--top-k",
        "--top-p",
        "--min-p",
        "--repetition-penalty",
        "--seed",
        "--threads",
        "--device",
        "--cpu",
        "--dtype",
        "--kv-dtype",
        "--method",
        "--stop",
        "--system",
        "--model",
    ];
    let make = |i: usize| {
        let (value, option) = (*dice.pick(&numbers), *dice.pick(&options));
        let name = format!("{option}={value:?}");
        match i % 3 {
            0 => Case::new(
                "arguments",
                format!("plan {name}"),
                &["plan", "--tokens", *dice.pick(&numbers), &format!("{option}={value}")],
            ),
            1 => Case::new(
                "arguments",
                format!("bench {name}"),
                &[
                    "bench",
                    "--lengths",
                    "64",
                    "--methods",
                    "dense",
                    "--runs",
                    "1",
                    "--decode-tokens",
                    *dice.pick(&["1", "18446744073709551615", "0"]),
                    "--query-tokens",
                    *dice.pick(&["1", "0", "1024m"]),
                    "--shape",
                    "small",
                    "--layers",
                    "1",
                    "--lengths",
                    *dice.pick(&numbers),
                ],
            )
            // Its random weights, and their copy in the order of the kernels.
            .takes(600 << 20),
            _ => Case::new(
                "arguments",
                name,
                &["ask", "-c", "{}/doc.txt", "--device", "cpu", &format!("{option}={value}"), "q"],
            )
            .bytes("doc.txt", "The sky is blue."),
        }
    };
    let mut cases: Vec<Case> = (0..count).map(make).collect();
    for (value, option) in
        [("18446744073709551615", "--max-tokens"), ("9223372036854775807", "--max-tokens")]
    {
        let case = Case::new(
            "arguments",
            format!("{option} {value}"),
            &["ask", "-c", "{}/doc.txt", option, value, "q"],
        );
        cases.push(case.bytes("doc.txt", "The sky is blue.").refused(&[]));
    }
    cases
}

/// Outputs that are full or closed.
pub(crate) fn streams() -> Vec<Case> {
    let mut cases = Vec::new();
    let commands: [&[&str]; 9] = [
        &["completions", "bash"],
        &["--help"],
        &["--version"],
        &["plan", "--tokens", "4k"],
        &["plan", "--tokens", "4k", "--json"],
        &["doctor", "--device", "cpu"],
        &["ask", "-c", "{}/doc.txt", "--device", "cpu", "--max-tokens", "4", "q"],
        &[
            "ask",
            "-c",
            "{}/doc.txt",
            "--device",
            "cpu",
            "--max-tokens",
            "4",
            "--compare",
            "--block",
            "16",
            "q",
        ],
        &["nonsense"],
    ];
    for args in commands {
        let case = |what: &str| Case::new("full outputs", format!("{args:?} {what}"), args);
        let doc = |case: Case| case.bytes("doc.txt", "The sky is blue.");
        let mut full = doc(case("stdout full"));
        full.stdout = Some("/dev/full".into());
        if !["--help", "--version", "nonsense"].contains(&args[0]) {
            full = full.refused(&["cannot write standard output", "No space left"]);
        }
        cases.push(full);
        let mut full = doc(case("stderr full"));
        full.stderr = Some("/dev/full".into());
        cases.push(full);
    }
    cases
}

/// Files of results in places that cannot hold them.
pub(crate) fn places() -> Vec<Case> {
    let line = json!({"input_context": "a b c", "input_query": "d"}).to_string() + "\n";
    let mut cases = Vec::new();
    for (name, entry) in [
        ("a pipe", Entry::Pipe),
        ("a device", Entry::Link("/dev/full".into())),
        ("zeros", Entry::Link("/dev/zero".into())),
        ("a folder", Entry::Folder),
        ("a sparse file", Entry::Sparse(1 << 30)),
    ] {
        let case = Case::new("places of results", name, &BATCH).bytes("in.jsonl", line.clone());
        cases.push(case.with("out.jsonl", entry).refused(&["out.jsonl"]));
    }
    let mut same =
        Case::new("places of results", "the input", &["batch", "{}/in.jsonl", "{}/in.jsonl"]);
    same.untouched = vec!["in.jsonl".to_owned()];
    cases.push(same.bytes("in.jsonl", line).refused(&["both input and output"]));
    let nano = nano().join("config.json");
    let input = Case::new("places of results", "a configuration as input", &BATCH);
    cases.push(input.with("in.jsonl", Entry::Link(nano)).refused(&["line 1"]));
    cases
}
