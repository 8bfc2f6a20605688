//! Chat templates render what Transformers renders.
//!
//! `golden/chat/cases.json` holds conversations and what Transformers made of them, or the words
//! with which its template refused them.

use asterism::text::ChatTemplate;
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Case {
    name: String,
    /// A file beside `cases.json`.
    template: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    messages: Value,
    add_generation_prompt: bool,
    #[serde(default)]
    variables: Map<String, Value>,
    rendered: Option<String>,
    error: Option<String>,
}

fn golden(file: &str) -> String {
    let path = format!("{}/tests/golden/chat/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What is wrong with a case, if anything.
fn check(case: &Case) -> Result<(), String> {
    let config = json!({"bos_token": case.bos_token, "eos_token": case.eos_token}).to_string();
    let template = ChatTemplate::from_files(Some(config.as_bytes()), Some(&golden(&case.template)))
        .map_err(|e| e.to_string())?
        .ok_or("no template")?;
    let rendered =
        template.render_with(&case.messages, &case.variables, case.add_generation_prompt);
    match (rendered, &case.rendered, &case.error) {
        (Ok(ours), Some(theirs), None) if ours == *theirs => Ok(()),
        (Err(ours), None, Some(theirs)) if ours.to_string().contains(theirs) => Ok(()),
        (ours, theirs, error) => Err(format!("ours {ours:?}\ntheirs {theirs:?}, error {error:?}")),
    }
}

#[test]
fn every_case_renders_as_in_transformers() {
    let cases: Vec<Case> =
        serde_json::from_str(&golden("cases.json")).expect("cases.json holds a list of cases");
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case).err().map(|e| format!("{}:\n{e}", case.name)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}
