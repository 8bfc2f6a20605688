//! Changes of JSON and of bytes, as carelessness and malice make them.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};
use serde_json::{Value, json};

/// Random choices from a seed.
pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A value that stands where another was expected.
pub(crate) fn odd_value(dice: &mut Dice) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(1.5),
        json!(1e308),
        json!(-0.0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1_000_000_000_000_u64),
        json!(""),
        json!("\u{1b}[2J\u{7}\u{202e}"),
        json!("x".repeat(5_000)),
        json!("\0"),
        json!([]),
        json!({}),
        json!([[]]),
        json!({"a": {"a": {}}}),
        json!([1, "a", null]),
        json!("../../etc/passwd"),
        json!("(a+)+$"),
        json!("NaN"),
        json!(vec![0; 1000]),
        json!("{{ 1 }}"),
        json!(4_294_967_296_u64),
    ];
    dice.pick(&odd).clone()
}

/// All places in a value, as paths, the largest lists only in part.
fn places(value: &Value, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields.iter().take(60) {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(inner, &format!("{path}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate().take(4) {
                places(inner, &format!("{path}/{i}"), all);
            }
        }
        _ => {}
    }
}

/// A file of JSON with one to three changes, and what was changed.
pub(crate) fn json_file(dice: &mut Dice, sound: &Value) -> (String, Vec<u8>) {
    let mut value = sound.clone();
    let mut name = String::new();
    for _ in 0..=dice.below(3) {
        let mut all = Vec::new();
        places(&value, "", &mut all);
        let place = dice.pick(&all).clone();
        let odd = odd_value(dice);
        name += &format!(" {place}={:.40}", odd.to_string());
        if let Some(at) = value.pointer_mut(&place) {
            match dice.below(8) {
                0 => *at = json!([at.clone()]),
                1 => *at = Value::Null,
                _ => *at = odd,
            }
        }
    }
    let text = value.to_string();
    let (what, text) = match dice.below(12) {
        0 => (" cut", text.chars().take(dice.below(text.len() + 1)).collect()),
        1 => (" mark", format!("\u{feff}{text}")),
        2 => (" twice", text.replacen('{', &format!("{{{},", first_field(&text)), 1)),
        3 => (" deep", "[".repeat(100_000) + &text),
        4 => (" NaN", text.replacen(|c: char| c.is_ascii_digit(), "NaN", 1)),
        _ => ("", text),
    };
    let (more, bytes) = match dice.below(10) {
        0 => bytes(dice, text.as_bytes()),
        _ => (String::new(), text.into_bytes()),
    };
    (name + what + &more, bytes)
}

/// The first field of an object, as it is written.
fn first_field(text: &str) -> &str {
    let end = text.find(',').unwrap_or(text.len());
    text.get(1..end).filter(|field| field.contains(':')).unwrap_or("\"a\":1,\"a\":2")
}

/// Bytes with one to four changes.
pub(crate) fn bytes(dice: &mut Dice, sound: &[u8]) -> (String, Vec<u8>) {
    let mut bytes = sound.to_vec();
    let mut name = String::new();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let kind = dice.below(6);
        name += &format!(" {kind}@{at}");
        match kind {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.below(256) as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            3 if at < bytes.len() => {
                bytes[at] = *dice.pick(&[0, 0xff, 0x7f, 0x80, b'"', b'{', b'\n'])
            }
            4 => {
                let piece = bytes[at..(at + dice.below(64)).min(bytes.len())].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => drop(bytes.drain(at..(at + dice.below(16)).min(bytes.len()))),
        }
    }
    (name, bytes)
}
