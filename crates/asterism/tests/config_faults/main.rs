//! Configurations, and the ways in which they can be wrong.

#![allow(clippy::unwrap_used)]

mod families;
mod samples;

use asterism::model::{ModelConfig, RopeScaling};
use proptest::prelude::*;
use samples::{llama, minimal, parse, with};
use serde_json::{Value, json};

#[track_caller]
fn assert_refused(config: &Value, phrases: &[&str]) {
    let text = parse(config).unwrap_err().to_string();
    assert!(text.starts_with("config.json: "), "{text}");
    for phrase in phrases {
        assert!(text.contains(phrase), "{phrase:?} is not in: {text}");
    }
}

#[test]
fn only_known_architectures_are_accepted() {
    let unknown = json!({"architectures": ["GemmaForCausalLM"]});
    let list = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM";
    assert_refused(&with(llama(), unknown), &["`GemmaForCausalLM`", list]);
    for missing in [json!(null), json!([])] {
        let config = with(llama(), json!({"architectures": missing}));
        assert_refused(&config, &["`architectures` is missing", list]);
    }
    let wrong = with(llama(), json!({"architectures": "LlamaForCausalLM"}));
    assert_refused(&wrong, &["`architectures` is \"LlamaForCausalLM\"; expected a list"]);
}

#[test]
fn another_computation_is_refused_with_its_field() {
    let cases = [
        (json!({"hidden_act": "gelu"}), "`hidden_act` = \"gelu\""),
        (json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}), "\"gptq\""),
        (json!({"quantization_config": {"bits": 4}}), "`quantization_config` = (unnamed)"),
        (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor` = 0.5"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "\"sliding_attention\""),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            "`rope_scaling.rope_type` = \"yarn\"",
        ),
        (json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "\"dynamic\""),
        (json!({"rope_scaling": {"rope_type": "longrope"}}), "default, linear and llama3"),
        (
            json!({"rope_scaling": null, "rope_parameters": {"full_attention": {"rope_theta": 1e4}}}),
            "all layers must rotate alike",
        ),
        (
            json!({"rope_scaling": null, "rope_parameters": {"partial_rotary_factor": 0.25}}),
            "`rope_parameters.partial_rotary_factor` = 0.25",
        ),
    ];
    for (change, phrase) in cases {
        assert_refused(&with(llama(), change), &[phrase, "not supported"]);
    }
}

#[test]
fn a_sliding_window_is_refused_unless_it_spans_all_positions() {
    let mistral = || minimal("MistralForCausalLM");
    assert_refused(&mistral(), &["`sliding_window` = 4096", "set it to null"]);
    assert_refused(&with(mistral(), json!({"sliding_window": 131071})), &["131071"]);
    for wide in [json!(null), json!(131072), json!(200000)] {
        assert!(parse(&with(mistral(), json!({"sliding_window": wide}))).is_ok());
    }
    for family in ["Qwen2ForCausalLM", "Qwen3ForCausalLM"] {
        let qwen = |on| json!({"use_sliding_window": on, "sliding_window": 4096});
        assert_refused(&with(minimal(family), qwen(true)), &["`use_sliding_window` = true"]);
        assert!(parse(&with(minimal(family), qwen(false))).is_ok());
    }
}

#[test]
fn a_rotary_parameter_must_be_given_and_in_range() {
    let scaling = |rope: Value| with(llama(), json!({"rope_scaling": rope}));
    let linear = parse(&scaling(json!({"type": "linear", "factor": 2.0}))).unwrap();
    assert_eq!(linear.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    let cases = [
        (json!({"factor": 2.0}), "`rope_scaling.rope_type` is missing"),
        (json!({"type": "linear"}), "`rope_scaling.factor` is missing"),
        (json!({"type": "linear", "factor": 0.5}), "is 0.5; expected a number of at least 1"),
        (json!({"type": "linear", "factor": "2"}), "is \"2\"; expected a number"),
        (json!({"type": 3}), "`rope_scaling.type` is 3; expected a string"),
        (json!({"rope_type": "llama3", "factor": 8.0}), "low_freq_factor` is missing"),
        (
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}),
            "more than low_freq_factor (4)",
        ),
        (
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
            "`rope_scaling.original_max_position_embeddings` is missing",
        ),
        (json!("llama3"), "`rope_scaling` is \"llama3\"; expected an object"),
    ];
    for (rope, phrase) in cases {
        assert_refused(&scaling(rope), &[phrase]);
    }
    for theta in [json!(0), json!(-1.0), json!(1)] {
        let config = with(llama(), json!({"rope_theta": theta}));
        assert_refused(&config, &["`rope_theta`", "a number greater than 1"]);
    }
    let both = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}});
    assert_refused(&with(llama(), both), &["the same as `rope_parameters`"]);
}

#[test]
fn a_missing_size_is_refused_with_its_name() {
    let names = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ];
    for name in names {
        let mut config = llama();
        config.as_object_mut().unwrap().remove(name);
        assert_refused(&config, &[&format!("`{name}` is missing"), "an integer from 1"]);
    }
}

#[test]
fn an_impossible_size_is_refused_with_its_value() {
    let names = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ];
    for name in names {
        for value in
            [json!(0), json!(-1), json!(1.5), json!("7"), json!(u64::MAX), json!(1u64 << 31)]
        {
            let config = with(llama(), json!({name: value.clone()}));
            assert_refused(&config, &[&format!("`{name}` is {value}; expected an integer from 1")]);
        }
    }
    assert_refused(
        &with(llama(), json!({"num_key_value_heads": 5})),
        &["`num_key_value_heads` is 5", "divisor of num_attention_heads (32)"],
    );
    assert_refused(&with(llama(), json!({"head_dim": 127})), &["`head_dim` is 127", "even"]);
    assert_refused(
        &with(llama(), json!({"hidden_size": 4100})),
        &["`hidden_size` is 4100", "multiple of num_attention_heads (32)"],
    );
    assert_refused(&with(llama(), json!({"rms_norm_eps": -1e-6})), &["`rms_norm_eps` is -1e-6"]);
    assert_refused(&with(llama(), json!({"tie_word_embeddings": 1})), &["true or false"]);
}

#[test]
fn the_largest_sizes_can_be_counted() {
    let largest = json!({"hidden_size": 1 << 20, "intermediate_size": 1 << 22,
        "num_hidden_layers": 1 << 12, "num_attention_heads": 1 << 12,
        "num_key_value_heads": 1 << 12, "head_dim": 1 << 12, "vocab_size": 1 << 24});
    let config = parse(&with(llama(), largest)).unwrap();
    assert!(i64::try_from(config.parameters()).is_ok());
}

#[test]
fn a_file_that_is_no_object_is_refused_briefly() {
    for bytes in [&b""[..], b"{", b"nonsense", b"\xff"] {
        let error = ModelConfig::parse(bytes, None).unwrap_err();
        assert!(error.to_string().starts_with("config.json: is not valid JSON"));
    }
    let error = ModelConfig::parse(b"[1]", None).unwrap_err();
    assert!(error.to_string().contains("is [1]; expected an object"));
    let long = format!("\"{}\"", "ä".repeat(1000));
    let text = ModelConfig::parse(long.as_bytes(), None).unwrap_err().to_string();
    assert!(text.len() < 300, "{text}");
}

/// JSON values of every kind, nested a little.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (1u64..64).prop_map(Value::from),
        "linear|llama3|default|silu|.{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("factor|type|rope_theta|rope_type", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_the_parser(
        config in prop::collection::vec(any::<u8>(), 0..200),
        generation in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
    ) {
        let _ = ModelConfig::parse(&config, generation.as_deref());
    }

    #[test]
    fn what_is_accepted_has_sound_sizes(
        field in prop::sample::select(llama().as_object().unwrap().keys().cloned().collect::<Vec<_>>()),
        value in any_json(),
    ) {
        if let Ok(config) = parse(&with(llama(), json!({ field: value }))) {
            prop_assert!(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0);
            prop_assert!(config.parameters() > 0 && !config.to_string().is_empty());
        }
    }
}
