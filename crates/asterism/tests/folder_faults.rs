//! Model folders that lack something, or hold something else: each is refused, with a message that
//! names the file and says what to do.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use asterism::model::{Checkpoint, FetchOptions, ModelConfig, ModelError, ModelSource};

#[track_caller]
fn assert_says<T: std::fmt::Debug>(result: Result<T, ModelError>, phrases: &[&str]) {
    let text = result.unwrap_err().to_string();
    for phrase in phrases {
        assert!(text.contains(phrase), "{phrase:?} is not in: {text}");
    }
}

/// The embedded model as a folder, in which a test then breaks something.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<Checkpoint, ModelError> {
    let files = ModelSource::Directory(dir.into()).resolve(&FetchOptions::default())?;
    ModelConfig::parse(&files.config, files.generation_config.as_deref())?;
    Checkpoint::open(files.weights, files.weight_index.as_deref())
}

#[test]
fn the_embedded_model_is_its_folder() {
    let nano = ModelSource::Nano.resolve(&FetchOptions::default()).unwrap();
    let dir = folder();
    let source = ModelSource::Directory(dir.path().into());
    let read = source.resolve(&FetchOptions::default()).unwrap();
    assert_eq!(nano.name, "nano");
    assert_eq!(read.name, dir.path().to_str().unwrap());
    assert_eq!((&nano.config, &nano.tokenizer), (&read.config, &read.tokenizer));
    assert_eq!(nano.generation_config, read.generation_config);
    assert_eq!(nano.tokenizer_config, read.tokenizer_config);
    assert_eq!(nano.weight_index, read.weight_index);
    assert_eq!(nano.chat_template, read.chat_template);
    for ((name, bytes), (other, mapped)) in nano.weights.iter().zip(&read.weights) {
        assert!(name == other && **bytes == **mapped && mapped.is_mapped());
    }

    let config = ModelConfig::parse(&nano.config, nano.generation_config.as_deref()).unwrap();
    let weights = Checkpoint::open(nano.weights, nano.weight_index.as_deref()).unwrap();
    assert_eq!(weights.bytes(), 2 * config.parameters());
    let shape = [config.vocab, config.hidden];
    assert!(weights.tensor("model.embed_tokens.weight", &shape).is_ok());
    assert_eq!(weights.contains("lm_head.weight"), !config.tie_embeddings);
}

#[test]
fn a_required_file_that_is_missing_is_named_and_others_may_be_missing() {
    for file in ["config.json", "tokenizer.json", "model-00002-of-00002.safetensors"] {
        let dir = folder();
        fs::remove_file(dir.path().join(file)).unwrap();
        assert_says(load(dir.path()), &[dir.path().to_str().unwrap(), &format!("no {file};")]);
    }
    let dir = folder();
    for file in ["generation_config.json", "tokenizer_config.json"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    assert!(load(dir.path()).is_ok());
}

#[test]
fn a_folder_without_weights_is_refused_and_pickles_are_named() {
    let dir = folder();
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    assert_says(load(dir.path()), &["no model.safetensors or model.safetensors.index.json"]);
    fs::write(dir.path().join("pytorch_model-00001-of-00002.bin"), b"PK").unwrap();
    let phrases = ["pickles", "pytorch_model-00001-of-00002.bin", "safe_serialization"];
    assert_says(load(dir.path()), &phrases);
}

#[test]
fn a_damaged_shard_is_refused_with_its_name() {
    let dir = folder();
    let shard = dir.path().join("model-00002-of-00002.safetensors");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() - 1]).unwrap();
    let name = "model-00002-of-00002.safetensors: cut short";
    assert_says(load(dir.path()), &[name, &format!("{} are needed", whole.len())]);
    fs::write(&shard, b"").unwrap();
    assert_says(load(dir.path()), &["model-00002-of-00002.safetensors", "is empty"]);
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    let dir = folder();
    let path = dir.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("LlamaForCausalLM", "GPT2LMHeadModel")).unwrap();
    let phrases = ["config.json", "`GPT2LMHeadModel`", "LlamaForCausalLM, MistralForCausalLM"];
    assert_says(load(dir.path()), &phrases);
}

#[test]
fn a_path_that_is_no_folder_is_explained() {
    assert_says(load(Path::new("./no-such-model")), &["./no-such-model: no such folder"]);
    assert_says(load(Path::new("./Cargo.toml")), &["./Cargo.toml: is a file"]);
}

#[test]
fn a_chat_template_is_read_and_must_be_utf8() {
    let dir = folder();
    let path = dir.path().join("chat_template.jinja");
    let source = ModelSource::Directory(dir.path().into());
    fs::write(&path, "{{ messages }}").unwrap();
    let files = source.resolve(&FetchOptions::default()).unwrap();
    assert_eq!(files.chat_template.as_deref(), Some("{{ messages }}"));
    fs::write(&path, b"\xff\xfe").unwrap();
    let result = source.resolve(&FetchOptions::default());
    assert_says(result, &["chat_template.jinja", "not UTF-8"]);
}
