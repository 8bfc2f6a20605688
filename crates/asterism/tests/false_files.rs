//! Files that are readable and say what is not so: none is believed.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Context, Engine, EngineError, EngineOptions, Generation, Room};
use asterism::model::{Checkpoint, FetchOptions, ModelConfig, ModelSource};
use asterism::plan::{Method, PlanSpec};
use asterism::tensor::{Bytes, Precision};
use common::{golden_dir, tiny};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// A tiny checkpoint as a folder, with nano's tokenizer.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden_dir("llama3").join(name), dir.path().join(name)).unwrap();
    }
    fs::copy("../../models/nano/tokenizer.json", dir.path().join("tokenizer.json")).unwrap();
    dir
}

fn load(dir: &Path) -> Result<Engine, String> {
    let files = ModelSource::Directory(dir.into()).resolve(&FetchOptions::default());
    let files = files.map_err(|error| chain(&error))?;
    let options = EngineOptions { precision: Precision::F32, ..EngineOptions::default() };
    Engine::load(files, &options).map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause))).unwrap_or_default();
    format!("{error}{cause}")
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
}

#[test]
fn weights_that_the_configuration_does_not_use_are_refused() {
    let dir = folder();
    load(dir.path()).unwrap();
    edit(&dir.path().join("config.json"), |text| {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let layers = config["num_hidden_layers"].as_u64().unwrap();
        config["num_hidden_layers"] = (layers - 1).into();
        config.to_string()
    });
    let error = load(dir.path()).map(|_| ()).unwrap_err();
    assert!(error.contains("model.layers.") && error.contains("config.json"), "{error}");
}

#[test]
fn weights_of_one_value_are_refused() {
    for fill in [0_u8, 0x3f] {
        let dir = folder();
        let path = dir.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].fill(fill);
        fs::write(&path, bytes).unwrap();
        let error = load(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.contains("in every place"), "{error}");
    }
}

#[test]
fn names_that_stand_twice_are_refused() {
    let parse = |text: &str| ModelConfig::parse(text.as_bytes(), None).unwrap_err();
    let config = fs::read_to_string(golden_dir("llama3").join("config.json")).unwrap();
    let twice = config.replacen('{', "{\"vocab_size\": 4096,", 1);
    let error = chain(&parse(&twice));
    assert!(
        error.contains("config.json") && error.contains("\"vocab_size\" is there twice"),
        "{error}"
    );

    let entry = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let header = format!("{{{entry},{entry}}}");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes().chain([0; 4]));
    let open = |index: Option<&[u8]>, file: Vec<u8>| {
        Checkpoint::open(vec![("w.safetensors".into(), Bytes::from(file))], index)
    };
    let error = chain(&open(None, file).unwrap_err());
    assert!(error.contains("w.safetensors") && error.contains("\"a\" is there twice"), "{error}");
}

#[test]
fn two_kinds_of_rotation_are_refused() {
    let config = fs::read_to_string(golden_dir("llama3").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("rope_parameters");
    config["rope_scaling"] =
        serde_json::json!({"rope_type": "linear", "type": "llama3", "factor": 2.0});
    let error = ModelConfig::parse(config.to_string().as_bytes(), None).unwrap_err().to_string();
    assert!(error.contains("rope_scaling.type") && error.contains("rope_type"), "{error}");
    config["rope_scaling"]["type"] = "linear".into();
    ModelConfig::parse(config.to_string().as_bytes(), None).unwrap();
}

#[test]
fn a_corrupt_header_names_its_tensor() {
    let header = r#"{"good":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"bad":{"dtype":"F32","shape":[-1],"data_offsets":[4,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes().chain([0; 8]));
    let files = vec![("w.safetensors".into(), Bytes::from(file))];
    let error = Checkpoint::open(files, None).unwrap_err().to_string();
    assert!(error.contains("w.safetensors") && error.contains("`bad`"), "{error}");
}

#[test]
fn values_of_any_length_are_shown_in_short() {
    let long = "x".repeat(300);
    let config = fs::read_to_string(golden_dir("llama3").join("config.json")).unwrap();
    for field in ["architectures", "hidden_act", "vocab_size"] {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[field] =
            if field == "architectures" { vec![long.clone()].into() } else { long.clone().into() };
        let error =
            ModelConfig::parse(config.to_string().as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains("xxx…") && error.len() < 250, "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_configuration() {
    let dir = folder();
    edit(&dir.path().join("config.json"), |text| format!("\u{feff}{text}"));
    load(dir.path()).unwrap();
}

#[cfg(unix)]
#[test]
fn files_that_are_no_files_are_not_waited_for() {
    for name in ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"] {
        for special in ["fifo", "/dev/zero", "sparse"] {
            let dir = folder();
            let path = dir.path().join(name);
            let _ = fs::remove_file(&path);
            match special {
                "fifo" => {
                    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
                    assert!(made.success());
                }
                "sparse" => fs::File::create(&path).unwrap().set_len(1 << 36).unwrap(),
                device => std::os::unix::fs::symlink(device, &path).unwrap(),
            }
            let error = load(dir.path()).map(|_| ()).unwrap_err();
            assert!(error.contains(name), "{special}: {error}");
        }
    }
}

#[test]
fn lengths_that_wrap_round_are_too_long() {
    let engine = tiny("llama3");
    let cancel = Cancel::new();
    let spec = PlanSpec::from(Method::Dense);
    let context = Context::encode(
        Arc::clone(&engine),
        vec![1, 2, 3],
        spec,
        Room::default(),
        &|_| (),
        &cancel,
    )
    .unwrap();
    for max_tokens in [usize::MAX, usize::MAX - 3, usize::MAX / 2] {
        let settings = Generation { max_tokens, ..Generation::default() };
        let mut on_token = |_| ControlFlow::Break(());
        let error = context.generate(&[1], &settings, &mut on_token, &cancel).unwrap_err();
        assert!(matches!(error, EngineError::TooLong { .. }), "{error}");
        assert!(error.to_string().contains("1 token of question"), "{error}");
    }
}
