//! Golden hashes of the reference's generators, and what every sample must be.

use super::*;

/// A stand-in for a tokenizer: words between white space, as the golden vectors were made.
struct Words;

impl CountTokens for Words {
    fn count(&self, text: &str) -> Result<usize, EvalError> {
        Ok(text.split_whitespace().count())
    }
}

fn ruler(variant: Variant, frame: &str, search: Search) -> Ruler {
    let frame = variant.frame(frame).unwrap();
    Ruler::new(Settings { variant, frame, search, ..Settings::default() }).unwrap()
}

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
    ("vt", "base", 0, 3979, "8e1f779c9a2f25d1", "7adc521fed24574c", "PRDVY CGOKP QUJXH PLOBY CTQGC"),
    ("vt", "llama3", 0, 3984, "8eb99cdb0cef9161", "8a36970fb4dccbe6", "PRDVY CGOKP QUJXH PLOBY CTQGC"),
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
