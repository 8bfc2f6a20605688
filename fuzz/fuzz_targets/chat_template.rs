//! A chat template: read, and rendered with a system message and a question.

#![no_main]

use asterism::text::{ChatTemplate, PromptFrame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if let Ok(Some(template)) = ChatTemplate::from_files(None, Some(source)) {
        let _ = PromptFrame::from_template(Some(&template), Some("Be brief."), None);
        let messages =
            serde_json::json!([{"role": "user", "content": [{"type": "text", "text": "a"}]}]);
        let extra = serde_json::json!({"tools": [{"name": "f", "n": 1.5}]});
        let extra = extra.as_object().cloned().unwrap_or_default();
        let _ = template.render_with(&messages, &extra, true);
    }
});
