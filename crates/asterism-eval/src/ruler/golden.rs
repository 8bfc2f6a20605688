//! Samples against those of the reference's generators, hash for hash.

use super::tests::{Words, ruler, with_files};
use super::*;
use crate::Haystack;

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
        let ruler = ruler(Variant::StarPaper, frame, Search::Reference);
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

/// The third sample of each set: (task, variant, length to fill, length, hashes of context and
/// query).
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
        let settings = Settings { variant, search: Search::Reference, ..settings.clone() };
        let set = Ruler::new(settings).unwrap().generate(task, fill, 3, &Words).unwrap();
        let sample = &set.samples[2];
        let found = (sample.length, digest(&sample.input_context), digest(&sample.input_query));
        assert_eq!(found, (length, context.to_owned(), query.to_owned()), "{task} {fill}");
    }
}

/// The second sample of the essay tasks on a text whose sentences nobody disputes, at 4,096 words
/// under Llama 3's chat: (task, length, hashes of context and query).
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
        let (frame, search) = (ChatFrame::llama3(), Search::Reference);
        let settings = Settings { haystack, frame, search, ..Settings::default() };
        let set = Ruler::new(settings).unwrap().generate(task, 4096, 2, &Words).unwrap();
        let sample = &set.samples[1];
        let found = (sample.length, digest(&sample.input_context), digest(&sample.input_query));
        assert_eq!(found, (length, context.to_owned(), query.to_owned()), "{task}");
    }
}

/// The third sample of each task of `ruler-upstream`: (task, template, length to fill, length, hash
/// of the text, outputs).
const GOLDEN_UPSTREAM: [(&str, &str, usize, usize, &str, &str); 26] = [
    ("niah_single_1", "base", 2000, 1991, "f1ab7e599b5a27bb", "8707870"),
    ("niah_single_1", "llama3", 4096, 4082, "572941f8805bf5c6", "2322047"),
    ("niah_single_2", "base", 2000, 2000, "a29d28a73be045af", "2338687"),
    ("niah_single_2", "llama3", 4096, 4096, "f5364c3b8b02b32b", "7210606"),
    (
        "niah_single_3",
        "base",
        2000,
        2000,
        "6d2f269abd52e255",
        "448aaa9e-66b2-4c5b-90c1-87fcce177b4e",
    ),
    (
        "niah_single_3",
        "llama3",
        4096,
        4096,
        "3662a3d6dfaca735",
        "23bed01d-43cf-4fde-a493-3b83757750a9",
    ),
    ("niah_multikey_1", "base", 2000, 2000, "77c5a43d9499752f", "4694634"),
    ("niah_multikey_1", "llama3", 4096, 4096, "142f5136664ae876", "2626229"),
    ("niah_multikey_2", "base", 2000, 1996, "de1ed87a5560cbba", "9829762"),
    ("niah_multikey_2", "llama3", 4096, 4088, "c0712c21b96807f0", "4223772"),
    (
        "niah_multikey_3",
        "base",
        2000,
        1996,
        "f202cfab17574d39",
        "9262c536-e14e-41f7-94f1-6d9255af47da",
    ),
    (
        "niah_multikey_3",
        "llama3",
        4096,
        4087,
        "7d42bd62b72f8511",
        "8a40b5cd-9597-4508-9bed-5760b129a6a4",
    ),
    ("niah_multivalue", "base", 2000, 2000, "746edf5ba153d26b", "6159230 5017343 1971823 5041154"),
    (
        "niah_multivalue",
        "llama3",
        4096,
        4096,
        "2c20ba79b5cd847c",
        "8973915 3770370 5446912 9852897",
    ),
    ("niah_multiquery", "base", 2000, 2000, "bd5e04a1e176476a", "2642635 4965789 8434500 1247595"),
    (
        "niah_multiquery",
        "llama3",
        4096,
        4096,
        "3b77314a9da16ea6",
        "1036161 5785687 9164991 5449368",
    ),
    ("vt", "base", 2000, 1984, "c18a992200c53783", "IWHYK VMTBY FBYBA GVQGM CYMGJ"),
    ("vt", "llama3", 4096, 4094, "86a88c57c04ca37f", "BAGVQ GMCYM GJPZS UEIPY OXJYF"),
    (
        "cwe",
        "base",
        2000,
        1980,
        "d7c997ef1cfebd0d",
        "roundabout throne hope fantasy bedrock birch tenet thermometer calico classy",
    ),
    (
        "cwe",
        "llama3",
        4096,
        4092,
        "6eb9a608cf9bf1aa",
        "worshiper knowledge detector trigger nationality forte switchboard collectivization protest basin",
    ),
    ("fwe", "base", 2000, 1942, "9b079b9427d26583", "cqwlsx hyvoli xepqmc"),
    ("fwe", "llama3", 4096, 3991, "5f74c15b37c54e2e", "fnnbdi omywmf pitmnm"),
    ("qa_1", "base", 2000, 1999, "2a8752ee4a1d1321", "gold0x2 it"),
    ("qa_1", "llama3", 4096, 4088, "565751bea1f95c4e", "gold0x2 it"),
    ("qa_2", "base", 2000, 1989, "72c9ab4681bd538c", "Fact 2.3"),
    ("qa_2", "llama3", 4096, 4078, "9520b987dc1eede2", "Fact 2.3"),
];

// The hashes are those of `tests/golden/eval/make_upstream.py`: upstream's draws and search,
// written anew and run by CPython and NumPy.
#[test]
fn upstream_is_drawn_as_its_scripts_draw() {
    let (_folder, files) = with_files();
    let lines: Vec<String> = (0..5000).map(|line| format!("Line {line} has words.")).collect();
    let haystack = Haystack::new("lines", &lines.join(" "));
    let variant = Variant::RulerUpstream;
    for (task, frame, fill, length, text, outputs) in GOLDEN_UPSTREAM {
        let (frame, search) = (variant.frame(frame).unwrap(), Search::Reference);
        let settings =
            Settings { variant, haystack: haystack.clone(), frame, search, ..files.clone() };
        let set = Ruler::new(settings).unwrap().generate(task, fill, 3, &Words).unwrap();
        let sample = &set.samples[2];
        let found = digest(&format!("{}{}", sample.input_context, sample.input_query));
        let found = (sample.length, found, sample.outputs.join(" "));
        assert_eq!(found, (length, text.to_owned(), outputs.to_owned()), "{task} {fill}");
    }
}
