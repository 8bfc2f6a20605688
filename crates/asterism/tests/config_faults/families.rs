//! Sound configurations, as the model families publish them.

use asterism::model::{Family, ModelConfig, RopeScaling};
use serde_json::json;

use super::samples::{llama, minimal, parse, with};

#[test]
fn a_llama_configuration_is_read_field_by_field() {
    let config = parse(&llama()).unwrap();
    assert_eq!(config.family, Family::Llama);
    assert_eq!((config.hidden, config.intermediate, config.layers), (4096, 14336, 32));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (32, 8, 128));
    assert_eq!((config.vocab, config.max_positions), (128256, 131072));
    assert_eq!(config.rope.theta, 500000.0);
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    };
    assert_eq!(config.rope.scaling, expected);
    assert_eq!(config.rms_norm_eps, 1e-5);
    let switches = [config.tie_embeddings, config.qkv_bias, config.o_bias, config.mlp_bias];
    assert_eq!((switches, config.qk_norm), ([false; 4], false));
    assert_eq!((config.bos, config.eos.as_slice()), (Some(128000), &[128001][..]));
    // The count that the model card gives.
    assert_eq!(config.parameters(), 8_030_261_248);
    let line = config.to_string();
    for part in ["Llama, 32 layers", "32 query and 8 key/value heads of 128", "llama3 x8", "8.03 G"]
    {
        assert!(line.contains(part) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn the_style_of_transformers_5_means_the_same() {
    let mut current = llama();
    let fields = current.as_object_mut().unwrap();
    let theta = fields.remove("rope_theta").unwrap();
    let mut rope = fields.remove("rope_scaling").unwrap();
    rope["rope_theta"] = theta;
    fields.insert("rope_parameters".into(), rope);
    let dtype = fields.remove("torch_dtype").unwrap();
    fields.insert("dtype".into(), dtype);
    assert_eq!(parse(&current).unwrap(), parse(&llama()).unwrap());

    let plain = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
    let plain = parse(&with(minimal("LlamaForCausalLM"), plain)).unwrap();
    assert_eq!((plain.rope.theta, plain.rope.scaling), (1e6, RopeScaling::None));
}

#[test]
fn every_family_has_its_own_defaults() {
    let llama = parse(&minimal("LlamaForCausalLM")).unwrap();
    assert_eq!((llama.kv_heads, llama.head_dim, llama.max_positions), (32, 64, 2048));
    assert_eq!((llama.rope.theta, llama.rms_norm_eps), (10_000.0, 1e-6));
    assert_eq!((llama.bos, llama.eos), (Some(1), vec![2]));

    let full = json!({"sliding_window": null});
    let mistral = parse(&with(minimal("MistralForCausalLM"), full)).unwrap();
    assert_eq!((mistral.kv_heads, mistral.head_dim, mistral.max_positions), (8, 64, 131_072));
    assert_eq!((mistral.bos, mistral.eos), (Some(1), vec![2]));

    let qwen2 = parse(&minimal("Qwen2ForCausalLM")).unwrap();
    assert_eq!((qwen2.kv_heads, qwen2.head_dim, qwen2.max_positions), (32, 64, 32_768));
    assert_eq!((qwen2.qkv_bias, qwen2.o_bias, qwen2.qk_norm), (true, false, false));
    assert_eq!((qwen2.bos, qwen2.eos), (None, vec![]));

    let qwen3 = parse(&minimal("Qwen3ForCausalLM")).unwrap();
    assert_eq!((qwen3.kv_heads, qwen3.head_dim, qwen3.max_positions), (32, 128, 32_768));
    assert_eq!((qwen3.qkv_bias, qwen3.o_bias, qwen3.qk_norm), (false, false, true));

    let nulls = json!({"num_key_value_heads": null, "head_dim": null, "sliding_window": null,
        "rope_scaling": null, "eos_token_id": null, "hidden_act": null});
    for family in ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"]
    {
        let config = parse(&with(minimal(family), nulls.clone())).unwrap();
        assert_eq!((config.kv_heads, config.head_dim, config.eos), (32, 64, vec![]), "{family}");
    }
}

#[test]
fn biases_follow_the_family_and_its_switches() {
    let biased = json!({"attention_bias": true, "mlp_bias": true, "sliding_window": null});
    let flags = |family: &str| {
        let config = parse(&with(minimal(family), biased.clone())).unwrap();
        (config.qkv_bias, config.o_bias, config.mlp_bias)
    };
    assert_eq!(flags("LlamaForCausalLM"), (true, true, true));
    assert_eq!(flags("MistralForCausalLM"), (false, false, false));
    assert_eq!(flags("Qwen2ForCausalLM"), (true, false, false));
    assert_eq!(flags("Qwen3ForCausalLM"), (true, true, false));
}

#[test]
fn the_number_of_weights_is_that_of_the_model_cards() {
    // Counts that the model cards give.
    let qwen2 = json!({"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
        "tie_word_embeddings": true});
    let config = parse(&with(minimal("Qwen2ForCausalLM"), qwen2)).unwrap();
    assert_eq!(config.parameters(), 494_032_768);
    let qwen3 = json!({"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151936, "tie_word_embeddings": true});
    let config = parse(&with(minimal("Qwen3ForCausalLM"), qwen3)).unwrap();
    assert_eq!(config.parameters(), 596_049_920);
    let mistral = json!({"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "vocab_size": 32000, "sliding_window": null});
    let config = parse(&with(minimal("MistralForCausalLM"), mistral)).unwrap();
    assert_eq!(config.parameters(), 7_241_732_096);
}

#[test]
fn end_tokens_of_the_generation_config_count() {
    let eos = |generation: &str| {
        let config = llama().to_string();
        ModelConfig::parse(config.as_bytes(), Some(generation.as_bytes())).map(|config| config.eos)
    };
    assert_eq!(eos(r#"{"eos_token_id": [128001, 128009]}"#).unwrap(), [128001, 128009]);
    assert_eq!(eos(r#"{"eos_token_id": 7}"#).unwrap(), [7]);
    assert_eq!(eos("{}").unwrap(), [128001]);
    assert_eq!(eos(r#"{"eos_token_id": null}"#).unwrap(), [128001]);
    for (generation, phrase) in [
        (r#"{"eos_token_id": -1}"#, "`eos_token_id` is -1; expected a token id"),
        (r#"{"eos_token_id": [1, "</s>"]}"#, r#"[1,"</s>"]"#),
        ("[]", "expected an object"),
        ("", "not valid JSON"),
    ] {
        let text = eos(generation).unwrap_err().to_string();
        assert!(text.starts_with("generation_config.json: "), "{text}");
        assert!(text.contains(phrase), "{text}");
    }
}
