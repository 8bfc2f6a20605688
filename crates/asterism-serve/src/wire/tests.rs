use super::*;
use asterism::engine::Generation;
use proptest::prelude::*;
use serde_json::{Value, json};

fn chat(fields: Value) -> Result<ChatRequest, Value> {
    let mut all = json!({"model": "nano", "messages": [{"role": "user", "content": "Who?"}]});
    let object = all.as_object_mut().unwrap();
    object.extend(fields.as_object().cloned().unwrap());
    ChatRequest::read(all.to_string().as_bytes()).map_err(|error| error.body())
}

#[test]
fn parts_of_a_message_stand_apart_by_a_blank_line() {
    let parts = json!([{"type": "text", "text": "A book."}, {"type": "text", "text": "Who?"}]);
    let request = chat(json!({"messages": [{"role": "user", "content": parts}]})).unwrap();
    assert_eq!(request.messages[0].content, "A book.\n\nWho?");
}

#[test]
fn what_is_wrong_is_named() {
    for (fields, param) in [
        (json!({"messages": "Who?"}), "messages"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content",
        ),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"n": 33}), "n"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"response_format": {"type": "xml"}}), "response_format"),
        (json!({"stream": 1}), "stream"),
        (json!({"tools": [{}]}), "tools"),
    ] {
        let error = chat(fields.clone()).unwrap_err();
        assert_eq!(error["error"]["param"], param, "{fields} {error}");
    }
}

#[test]
fn both_names_of_the_longest_answer_are_understood() {
    let tokens = |fields| {
        chat(fields).unwrap().answer.generation(&Generation::default()).unwrap().max_tokens
    };
    assert_eq!(tokens(json!({"max_tokens": 5})), 5);
    assert_eq!(tokens(json!({"max_completion_tokens": 6})), 6);
    assert_eq!(tokens(json!({"max_tokens": null})), 128);
}

#[test]
fn settings_out_of_range_are_named() {
    for (fields, param) in [
        (json!({"temperature": -1}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"max_tokens": 0}), "max_tokens"),
    ] {
        let answer = chat(fields).unwrap().answer;
        let error = answer.generation(&Generation::default()).unwrap_err().body();
        assert_eq!(error["error"]["param"], param);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ChatRequest::read(&bytes);
        let _ = CompletionRequest::read(&bytes);
    }

    #[test]
    fn any_values_are_read_or_refused(
        name in prop::sample::select(vec![
            "model", "messages", "n", "seed", "stop", "stream_options", "response_format",
            "max_tokens", "logprobs", "block", "revisit", "hosts", "temperature", "other",
        ]),
        value in prop::sample::select(vec![
            json!(null), json!(-1), json!(1e300), json!(18446744073709551615u64), json!(""),
            json!([]), json!({}), json!([[]]), json!([null]), json!({"type": 1}), json!(true),
        ]),
    ) {
        let _ = chat(json!({name: value}));
    }
}
