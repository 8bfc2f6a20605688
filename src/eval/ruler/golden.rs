//! Samples against those of the reference's generators, hash for hash.

use super::tests::{Words, ruler, with_files};
use super::*;
use crate::eval::Haystack;

/// The first 16 hexadecimal digits of SHA-256.
fn digest(text: &str) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text.as_bytes());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Samples of the reference's generators at 4,096 words and seed 42, common words 30 and 3 times:
/// (task, template, index, length, hash of the context, hash of the query, outputs).
type Golden = (&'static str, &'static str, usize, usize, &'static str, &'static str, &'static str);

const GOLDEN: [Golden; 10] = [
    ("niah_single_1", "base", 0, 3986, "4c1c5ce5a3f9a53b", "22d7b944a77188b8", "2556017"),
    ("niah_single_1", "llama3", 0, 3992, "d98ea33592ade5a0", "f6671851b1591ede", "2556017"),
    ("niah_single_1", "llama3", 1, 3992, "4a6bbdf813e93d43", "d782154492691f8f", "6770619"),
    ("niah_multikey_2", "llama3", 0, 3942, "cca2ee761c68b12b", "12f88a46bb318e82", "1768424"),
    (
        "niah_multikey_3",
        "llama3",
        0,
        3942,
        "4160246584356c08",
        "7a1ac64fe3768af1",
        "297e86fe-3f8b-415e-b6a3-54091c20d86b",
    ),
    (
        "vt",
        "base",
        0,
        3979,
        "8e1f779c9a2f25d1",
        "7adc521fed24574c",
        "PRDVY CGOKP QUJXH PLOBY CTQGC",
    ),
    (
        "vt",
        "llama3",
        0,
        3984,
        "8eb99cdb0cef9161",
        "8a36970fb4dccbe6",
        "PRDVY CGOKP QUJXH PLOBY CTQGC",
    ),
    (
        "cwe",
        "llama3",
        0,
        4047,
        "5e3ad97c78e702e6",
        "87415760cba9de39",
        "rot threat mayonnaise tread gorilla relaxation constant vibe math steam",
    ),
    ("fwe", "base", 0, 4173, "dfcc60a63fe9eaf2", "2903040c604f08eb", "fkmgoo quqtyf rsrvqx"),
    ("fwe", "llama3", 0, 4179, "4507aa0a412852cd", "9862d1c2f9799746", "fkmgoo quqtyf rsrvqx"),
];

#[test]
fn samples_are_those_of_the_reference() {
    for (task, frame, index, length, context, query, outputs) in GOLDEN {
        let ruler = ruler(Variant::StarPaper, frame, Search::Linear);
        let set = ruler.generate(task, 4096, index + 1, &Words).unwrap();
        let sample = &set.samples[index];
        let found = (
            sample.length,
            digest(&sample.input_context),
            digest(&sample.input_query),
            sample.outputs.join(" "),
        );
        let golden = (length, context.to_owned(), query.to_owned(), outputs.to_owned());
        assert_eq!(found, golden, "{task} {frame} {index}");
    }
}

/// The third sample of each set: (task, variant, length to fill, length, hashes of context and query).
const GOLDEN_QUESTIONS: [(&str, Variant, usize, usize, &str, &str); 3] = [
    ("qa_1", Variant::StarHead, 3000, 2985, "52a1a54721820cee", "cffd8e76d14b1aba"),
    ("qa_1", Variant::StarPaper, 600, 375, "398e690ab9062578", "cffd8e76d14b1aba"),
    ("qa_2", Variant::StarPaper, 2000, 1881, "da4a15593f86eaeb", "1112024b007558ed"),
];

// The hashes are those of the reference's sampling, run by CPython on the same little files.
#[test]
fn questions_are_sampled_as_in_the_reference() {
    let (_folder, settings) = with_files();
    for (task, variant, fill, length, context, query) in GOLDEN_QUESTIONS {
        let settings = Settings { variant, search: Search::Linear, ..settings.clone() };
        let set = Ruler::new(settings).unwrap().generate(task, fill, 3, &Words).unwrap();
        let sample = &set.samples[2];
        let found = (sample.length, digest(&sample.input_context), digest(&sample.input_query));
        assert_eq!(found, (length, context.to_owned(), query.to_owned()), "{task} {fill}");
    }
}

/// The second sample of the essay tasks on a text whose sentences nobody disputes, at 4,096 words under
/// Llama 3's chat: (task, length, hashes of context and query).
const GOLDEN_ESSAYS: [(&str, usize, &str, &str); 5] = [
    ("niah_single_2", 3692, "6a5f3076ecd7ba6d", "f6671851b1591ede"),
    ("niah_single_3", 3692, "dda3a84593faf707", "c098b93feaf1aee7"),
    ("niah_multikey_1", 3722, "45189a9294446de4", "9aff09753fe7b89c"),
    ("niah_multivalue", 3723, "87a9309591734c30", "5860c1426d87a8a0"),
    ("niah_multiquery", 3731, "b5d223317402f85f", "8a7f946918d739f7"),
];

// The hashes are those of the reference's sampling, run by CPython on the same text.
#[test]
fn needles_go_into_essays_as_in_the_reference() {
    let lines: Vec<String> = (0..5000).map(|line| format!("Line {line} has words.")).collect();
    for (task, length, context, query) in GOLDEN_ESSAYS {
        let haystack = Haystack::new("lines", &lines.join(" "));
        let (frame, search) = (ChatFrame::llama3(), Search::Linear);
        let settings = Settings { haystack, frame, search, ..Settings::default() };
        let set = Ruler::new(settings).unwrap().generate(task, 4096, 2, &Words).unwrap();
        let sample = &set.samples[1];
        let found = (sample.length, digest(&sample.input_context), digest(&sample.input_query));
        assert_eq!(found, (length, context.to_owned(), query.to_owned()), "{task}");
    }
}
