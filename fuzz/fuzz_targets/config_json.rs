//! config.json, alone and with generation_config.json behind a zero byte.

#![no_main]

use asterism::model::ModelConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (config, generation) = (parts.next().unwrap_or_default(), parts.next());
    match ModelConfig::parse(config, generation) {
        Ok(config) => {
            assert!(config.layers > 0 && config.heads.is_multiple_of(config.kv_heads));
            let _ = (config.parameters(), config.to_string());
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
});
