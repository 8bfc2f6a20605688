//! The files of a model: configuration, weights, tokenizer, template.

use crate::case::{Case, Entry, Expect, nano};
use crate::mutate::{self, Dice};
use serde_json::{Value, json};
use std::sync::Arc;

fn json_of(name: &str) -> Value {
    let bytes = std::fs::read(nano().join(name)).expect("file of nano");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Configurations: changes at random, and some that make the model another one.
pub(crate) fn configs(dice: &mut Dice, count: usize) -> Vec<Case> {
    let sound = json_of("config.json");
    let mut cases = Vec::new();
    let lies: [(&str, Value); 12] = [
        ("num_hidden_layers", json!(7)),
        ("num_hidden_layers", json!(9)),
        ("vocab_size", json!(4095)),
        ("hidden_act", json!("gelu")),
        ("num_key_value_heads", json!(1)),
        ("tie_word_embeddings", json!(!sound["tie_word_embeddings"].as_bool().unwrap_or(false))),
        ("architectures", json!(["Qwen3ForCausalLM"])),
        ("attention_bias", json!(true)),
        ("quantization_config", json!({"quant_method": "awq"})),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 2})),
        ("rope_scaling", json!({"rope_type": "linear", "type": "llama3", "factor": 2})),
        ("head_dim", json!(32)),
    ];
    for (field, value) in lies {
        let mut config = sound.clone();
        config[field] = value.clone();
        // A tied head in a file that has one of its own is spare, not a lie.
        let spare = field == "tie_word_embeddings" && value == json!(true);
        let case = Case::ask("config.json", format!("{field}={value}"));
        let case = case.bytes("model/config.json", config.to_string());
        cases.push(if spare { case } else { case.refused(&[]) });
    }
    let twice = sound.to_string().replacen('{', "{\"rms_norm_eps\":0.5,", 1);
    cases.push(
        Case::ask("config.json", "twice").bytes("model/config.json", twice).refused(&["twice"]),
    );
    while cases.len() < count {
        let (name, bytes) = mutate::json_file(dice, &sound);
        cases.push(Case::ask("config.json", name).bytes("model/config.json", bytes));
    }
    cases
}

/// The smaller ones: generation_config.json, the index, tokenizer_config.json.
pub(crate) fn small_files(dice: &mut Dice, count: usize) -> Vec<Case> {
    let files = ["generation_config.json", "model.safetensors.index.json", "tokenizer_config.json"];
    let make = |i: usize| {
        let file = files[i % files.len()];
        let (name, bytes) = mutate::json_file(dice, &json_of(file));
        Case::ask("other JSON", format!("{file}{name}")).bytes(&format!("model/{file}"), bytes)
    };
    (0..count).map(make).collect()
}

/// Weight files: headers changed as JSON and as bytes, data that is none.
pub(crate) fn weights(dice: &mut Dice, count: usize) -> Vec<Case> {
    const FILE: &str = "model-00002-of-00002.safetensors";
    let path = format!("model/{FILE}");
    let whole = std::fs::read(nano().join(FILE)).expect("weights");
    let length = u64::from_le_bytes(whole[..8].try_into().expect("length")) as usize;
    let (head, data) = whole[8..].split_at(length);
    let header: Value = serde_json::from_slice(head).expect("header");
    let file = |header: &[u8], data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
    };
    let shared: Arc<[u8]> = data.into();
    let mut cases = Vec::new();
    let mut lie = |name: &str, bytes: Vec<u8>| {
        cases.push(Case::ask("safetensors", name).bytes(&path, bytes).refused(&[]));
    };
    lie("empty", Vec::new());
    lie("cut", whole[..whole.len() - 1].to_vec());
    lie("longer", [&whole[..], &[0]].concat());
    lie("zeros", file(head, &vec![0; data.len()]));
    lie("ones", file(head, &vec![0x3f; data.len()]));
    lie("not numbers", file(head, &vec![0xff; data.len()]));
    lie("huge header", [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat());
    let text = String::from_utf8(head.to_vec()).expect("UTF-8");
    let name =
        header.as_object().expect("object").keys().find(|k| k.contains("mlp")).expect("tensor");
    lie("renamed", file(text.replace(name.as_str(), "model.layers.77.x").as_bytes(), data));
    let entry = format!("{{\"{name}\":{},", header[name.as_str()]);
    lie("twice", file(text.replacen('{', &entry, 1).as_bytes(), data));
    while cases.len() < count {
        let (name, changed) = match dice.below(3) {
            0 => mutate::bytes(dice, head),
            _ => mutate::json_file(dice, &header),
        };
        let length = (changed.len() as u64).to_le_bytes();
        let entry = Entry::Before([&length[..], &changed].concat(), Arc::clone(&shared));
        cases.push(Case::ask("safetensors", name).with(&path, entry));
    }
    cases
}

/// Steps of a tokenizer, sound ones and others.
fn step(dice: &mut Dice, kind: &str, depth: usize) -> Value {
    let text = |dice: &mut Dice| {
        let long = "a".repeat(10_000);
        (*dice.pick(&["a", "", " ", "▁", "aaaa", "é", "\0", "##", long.as_str()])).to_owned()
    };
    let pattern = |dice: &mut Dice| match dice.below(3) {
        0 => json!({"String": text(dice)}),
        _ => json!({"Regex": dice.pick(&[
            "(a+)+$", "a*a*a*a*b", "(?:a|a)*c", "x*", "", "(", "\\p{L}+", "(?=a)", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$",
            " ?[^\\s]+|\\s+", "(?<!a)b", "\\b", "a{1,1000}a{1,1000}b", "[^a]|a*?$", "(\\w|\\W)*\\z!",
        ])}),
    };
    let number = |dice: &mut Dice| *dice.pick(&[0_u64, 1, 3, 1000, 1_000_000_000_000, u64::MAX]);
    if depth > 0 && dice.below(3) == 0 {
        let list = format!("{kind}s").replace("pre_tokenizers", "pretokenizers");
        let nested = *dice.pick(&[1, 2, 3, 100]);
        let inner: Vec<Value> = (0..=dice.below(6)).map(|_| step(dice, kind, depth - 1)).collect();
        let wrap = |inner: Value| json!({"type": "Sequence", list.as_str(): [inner]});
        return (1..nested).fold(json!({"type": "Sequence", list.as_str(): inner}), |v, _| wrap(v));
    }
    let space =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": dice.below(2) == 0, "trim_offsets": true, "use_regex": dice.below(2) == 0});
    let replace = json!({"type": "Replace", "pattern": pattern(dice), "content": text(dice)});
    match kind {
        "normalizer" => match dice.below(8) {
            0 | 1 => replace,
            2 => json!({"type": "Prepend", "prepend": text(dice)}),
            3 => {
                json!({"type": dice.pick(&["NFC", "NFKD", "Lowercase", "Nmt", "StripAccents", "ByteLevel"])})
            }
            4 => json!({"type": "Strip", "strip_left": true, "strip_right": true}),
            5 => {
                json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true})
            }
            6 => {
                json!({"type": "Precompiled", "precompiled_charsmap": dice.pick(&["", "AAAA", "AAAAAA==", "BAAAAAAAAABhAGJjAA==", "/////w==", "ALQCAACEAAAA"])})
            }
            _ => {
                json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAEAAAAA".repeat(1 + dice.below(50))})
            }
        },
        "pre_tokenizer" => match dice.below(7) {
            0 | 1 => {
                json!({"type": "Split", "pattern": pattern(dice), "behavior": dice.pick(&["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]), "invert": dice.below(2) == 0})
            }
            2 => byte_level,
            3 => space,
            4 => json!({"type": "FixedLength", "length": number(dice)}),
            5 => {
                json!({"type": dice.pick(&["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts", "Punctuation"])})
            }
            _ => json!({"type": "Digits", "individual_digits": true}),
        },
        _ => match dice.below(8) {
            0 => replace,
            1 => byte_level,
            2 => space,
            3 => {
                json!({"type": "Strip", "content": dice.pick(&["a", " ", ""]), "start": number(dice), "stop": number(dice)})
            }
            4 => json!({"type": dice.pick(&["Fuse", "ByteFallback"])}),
            5 => json!({"type": "WordPiece", "prefix": text(dice), "cleanup": true}),
            6 => json!({"type": "BPEDecoder", "suffix": text(dice)}),
            _ => {
                json!({"type": "CTC", "pad_token": text(dice), "word_delimiter_token": text(dice), "cleanup": true})
            }
        },
    }
}

/// Tokenizers: steps put together at random, and fields of the model changed.
pub(crate) fn tokenizers(dice: &mut Dice, count: usize) -> Vec<Case> {
    let sound = json_of("tokenizer.json");
    let mut cases = names_twice(dice, &sound);
    while cases.len() < count {
        let mut file = sound.clone();
        let name = match dice.below(6) {
            0 => {
                let model = [
                    "type",
                    "unk_token",
                    "continuing_subword_prefix",
                    "end_of_word_suffix",
                    "dropout",
                    "byte_fallback",
                    "merges",
                    "fuse_unk",
                ];
                let field = *dice.pick(&model);
                let value = match dice.below(2) {
                    0 => mutate::odd_value(dice),
                    _ => json!(dice.pick(&[
                        "a",
                        "é",
                        "WordPiece",
                        "Unigram",
                        "WordLevel",
                        "<|pad|>",
                        "ab"
                    ])),
                };
                file["model"][field] = value.clone();
                format!("model.{field}={:.60}", value.to_string())
            }
            1 => {
                let odd = mutate::odd_value(dice);
                let (token, field) = (
                    dice.below(6),
                    *dice.pick(&[
                        "id",
                        "content",
                        "special",
                        "lstrip",
                        "single_word",
                        "normalized",
                    ]),
                );
                file["added_tokens"][token][field] = odd.clone();
                format!("added {token}.{field}={:.60}", odd.to_string())
            }
            _ => {
                let kind = *dice.pick(&["normalizer", "pre_tokenizer", "decoder"]);
                file[kind] = step(dice, kind, 3);
                format!("{kind}={:.200}", file[kind].to_string())
            }
        };
        let document = match dice.below(4) {
            0 => "a".repeat(4_000) + "b",
            1 => "a b  é\r\n東京 ".repeat(200),
            _ => "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab and 12 more.".to_owned(),
        };
        let case = Case::ask("tokenizer.json", name).bytes("doc.txt", document);
        cases.push(case.bytes("model/tokenizer.json", file.to_string()));
    }
    cases
}

/// A name that stands twice in an object of `tokenizer.json` or of `tokenizer_config.json`.
fn names_twice(dice: &mut Dice, sound: &Value) -> Vec<Case> {
    let config = json_of("tokenizer_config.json");
    let vocab = sound["model"]["vocab"].as_object().expect("vocab");
    let token = vocab.keys().nth(dice.below(vocab.len())).expect("a token");
    let cases = [
        ("tokenizer.json", sound, "/model/vocab", token.as_str()),
        ("tokenizer.json", sound, "/model", *dice.pick(&["merges", "vocab", "type", "dropout"])),
        ("tokenizer.json", sound, "/added_tokens/0", *dice.pick(&["id", "content", "special"])),
        ("tokenizer.json", sound, "", *dice.pick(&["normalizer", "model", "decoder", "padding"])),
        ("tokenizer_config.json", &config, "", *dice.pick(&["chat_template", "bos_token"])),
    ];
    let make = |(file, sound, at, name): (&'static str, &Value, &str, &str)| {
        let object = sound.pointer(at).expect("an object");
        let (name, value) = (json!(name).to_string(), &object[name]);
        // As it is written, with the entry once more in front.
        let inside = object.to_string();
        let doubled = inside.replacen('{', &format!("{{{name}:{value},"), 1);
        let text = sound.to_string().replacen(&inside, &doubled, 1);
        let case = Case::ask(file, format!("{at}: {name} twice"));
        case.bytes(&format!("model/{file}"), text).refused(&[file, "is there twice"])
    };
    cases.into_iter().map(make).collect()
}

/// Templates: bombs, and pieces of templates put together at random.
pub(crate) fn templates(dice: &mut Dice, count: usize) -> Vec<Case> {
    let message = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let loops = |step: &str| {
        format!(
            "{{% set ns = namespace(x=[1], s='aaaa') %}}{{% for i in range(99999) %}}{{% for j in range(99999) %}}{step}{{% endfor %}}{{% endfor %}}{{{{ ns.x }}}}{message}"
        )
    };
    let chains =
        ["not ", "-", "(", "[", "1+", "1~", "1**", "1 if 1 else ", "1 and ", "{'a':", "1 in "];
    let tails = [".a", "[0]", "()", "|int", " is defined", "[1:]", "|list"];
    let grown = [
        "",
        "{% set ns.x = [ns.x] %}",
        "{% set ns.x = {'a': ns.x} %}",
        "{% set ns.x = ns %}",
        "{% set ns.x = ns.x + ns.x %}",
        "{% set ns.s = ns.s ~ ns.s %}",
        "{% set ns.s = ns.s.replace('a', 'aa') %}",
        "{% set ns.x = ns.x | map('string') | list %}",
        "{% set ns.s = ns.s | upper %}{% set ns.s = ns.s * 2 %}",
        "{% set ns.x = ns.x[0:] %}",
        "{% set ns.x = ns.x | zip(ns.x) %}",
        "aaaaaaaaaaaaaaaa",
        "{% set ns.s = ns.s.split('a') | join('aa') %}",
        "{% set ns.x = namespace(x=ns) %}",
        "{% set ns.x = (ns.x, ns.x) %}",
    ];
    let widths = [
        "'a'|indent(100000000000)",
        "'%100000000000d'|format(1)",
        "'{:100000000000}'.format(1)",
        "[1]|slice(100000000000)|list",
        "[1]|batch(100000000000, 1)|list",
        "'a' * 100000000000",
        "[1] * 100000000000",
        "range(100000000000)|list",
        "[1]|tojson(indent=100000000000)",
        "'a'.ljust(99999999999)",
        "'a'|center(99999999999)",
        "9**9**9",
        "strftime_now('%99999999999Y')",
        "('a' * 9999999).split('a')|length",
        "'a'.zfill(99999999999)",
        "('a' * 9999999)|list|length",
        "('%s' * 999999)|format(1)",
    ];
    let mut cases = Vec::new();
    let mut bomb = |name: String, source: String| {
        let case = Case::ask("chat template", name).bytes("model/chat_template.jinja", source);
        cases.push(case.refused(&["template"]));
    };
    for step in grown {
        bomb(format!("loop {step}"), loops(step));
    }
    for chain in chains {
        let close = match chain {
            "(" => ")",
            "[" => "]",
            "{'a':" => "}",
            _ => "",
        };
        bomb(
            format!("chain {chain}"),
            format!("{{{{ {}1{} }}}}{message}", chain.repeat(100_000), close.repeat(100_000)),
        );
    }
    for tail in tails {
        bomb(format!("tail {tail}"), format!("{{{{ x{} }}}}{message}", tail.repeat(100_000)));
    }
    for width in widths {
        let case = Case::ask("chat template", width);
        cases.push(case.bytes("model/chat_template.jinja", format!("{{{{ {width} }}}}{message}")));
    }
    let pieces = [
        "{{ ",
        " }}",
        "{% if ",
        "{% endif %}",
        "{% for i in ",
        "{% endfor %}",
        " %}",
        "{%- ",
        " -%}",
        "messages",
        "m.content",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "'",
        "\"",
        "|",
        "~",
        "not ",
        "-",
        "range(99999)",
        "namespace(a=1)",
        "{% set ns.a = ",
        "tojson",
        "indent(9)",
        ".split('a')",
        " is ",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "f(f)",
        "{# ",
        " #}",
        "{% raw %}",
        "{% endraw %}",
        "{% generation %}",
        "\u{1b}[31m",
        "loop",
        "\\",
        "\r\n",
        "raise_exception('\u{1b}[2Jx')",
        "{% break %}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% block a %}",
        "strftime_now('%Y')",
    ];
    while cases.len() < count {
        let source: String = (0..=dice.below(30)).map(|_| *dice.pick(&pieces)).collect();
        let source = if dice.below(2) == 0 { source + message } else { source };
        let case = Case::ask("chat template", format!("{source:?}"));
        cases.push(case.bytes("model/chat_template.jinja", source));
    }
    cases.truncate(count);
    cases
}

/// What stands in the place of a model's files, and is no file.
pub(crate) fn no_files() -> Vec<Case> {
    let files = [
        "model/config.json",
        "model/generation_config.json",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "model/chat_template.jinja",
        "model/model.safetensors.index.json",
        "model/model-00002-of-00002.safetensors",
        "doc.txt",
    ];
    let mut cases = Vec::new();
    for file in files {
        let short = file.trim_start_matches("model/");
        let mut put = |name: &str, entry: Entry| {
            let case = Case::ask("no regular files", format!("{name} as {short}"));
            cases.push(case.with(file, entry).refused(&[short]));
        };
        put("zeros without end", Entry::Link("/dev/zero".into()));
        put("a sparse file", Entry::Sparse(1 << 36));
        put("a folder", Entry::Folder);
        if file != "doc.txt" {
            // A document may come through a pipe, and is then waited for.
            put("a pipe", Entry::Pipe);
            put("the empty device", Entry::Link("/dev/null".into()));
        }
    }
    for case in &mut cases {
        if case.name.contains("sparse") && case.name.contains("safetensors") {
            // Mapped, not read: refused for what its header says.
            case.expect = Expect::Refused;
        }
    }
    cases
}
