//! The server's contract, a test a line, against the real binary.

#[path = "contexts.rs"]
mod contexts;
#[path = "disk.rs"]
mod disk;
#[path = "documents.rs"]
mod documents;
#[path = "server.rs"]
mod server;

use serde_json::{Value, json};
use server::{Server, events, read_all};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const QUESTION: &str = "What is the access code for the Lisbon vault?";

/// Some 60 tokens a repetition, and a fact in the middle.
fn book(repetitions: usize, code: u32) -> String {
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. "
        .repeat(repetitions / 2);
    format!("{prose}The access code for the Lisbon vault is {code}. {prose}")
}

fn chat(content: &str, more: Value) -> Value {
    let mut body = json!({"model": "nano", "messages": [{"role": "user", "content": content}]});
    let fields = body.as_object_mut().expect("object");
    fields.extend(more.as_object().cloned().expect("object"));
    body
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn malformed_requests_are_refused_with_the_fields_name() {
    let server = Server::start(&[]);
    let path = "/v1/chat/completions";
    for (body, param) in [
        (&b"{"[..], None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (
            br#"{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}"#,
            Some("temperature"),
        ),
        (br#"{"messages": [{"role": "user", "content": "x"}], "model": "gpt-4"}"#, Some("model")),
        (br#"{"messages": [{"role": "user", "content": "x"}], "tools": [{}]}"#, Some("tools")),
        (br#"{"messages": [{"role": "user", "content": "x"}], "block": 7}"#, Some("block")),
        (br#"{"messages": []}"#, Some("messages")),
        (br#"{"messages": [{"role": "user", "content": "  "}]}"#, Some("messages")),
    ] {
        let answer = server.raw(path, &[("content-type", "application/json")], body);
        let shown = String::from_utf8_lossy(body);
        assert!((400..500).contains(&answer.status), "{shown}: {answer:?}");
        assert_eq!(answer.body["error"]["param"].as_str(), param, "{shown}: {answer:?}");
        assert_eq!(answer.should_retry.as_deref(), Some("false"));
    }
    for (answer, status) in [
        (server.get("/nowhere"), 404),
        (server.get(path), 405),
        (server.get("/v1/contexts/nobody"), 404),
        (server.get("/v1/models/nobody"), 404),
    ] {
        assert_eq!(answer.status, status);
        assert!(answer.body["error"]["message"].is_string(), "{answer:?}");
    }
}

#[test]
fn fields_that_make_no_difference_are_listed() {
    let server = Server::start(&[]);
    let body = chat("Who?", json!({"user": "me", "store": true, "max_tokens": 2, "tools": []}));
    let answer = server.post("/v1/chat/completions", &body);
    assert_eq!(answer.body["asterism"]["ignored"], json!(["store", "user"]), "{answer:?}");
}

#[test]
fn an_answer_from_the_middle_of_a_book_says_what_it_took() {
    let server = Server::start(&["--block", "1k", "--anchor", "256"]);
    let body = chat(&format!("{}\n\n{QUESTION}", book(300, 48213)), json!({"sources": true}));
    let first = server.post("/v1/chat/completions", &body).body;
    assert!(text(&first).contains("48213"), "{first}");
    let (usage, timings) = (&first["usage"], &first["timings"]);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert!(timings["prompt_ms"].as_f64() > Some(0.0) && timings["cache_n"] == 0);
    assert_eq!(first["asterism"]["block"], 1024);
    let sources = first["asterism"]["sources"].as_array().expect("sources");
    let has_code = |source: &Value| source["passage"].as_str().is_some_and(|p| p.contains("48213"));
    assert!(sources.iter().any(has_code), "{first}");
    // Once more: all of its blocks are there.
    let second = server.post("/v1/chat/completions", &body).body;
    assert_eq!(text(&second), text(&first));
    let cached = &second["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert_eq!(cached, &usage["prompt_tokens_details"]["cache_write_tokens"]);
    assert_eq!(second["asterism"]["blocks"]["encoded"], 0);
}

#[test]
fn too_long_a_request_is_refused_with_both_numbers_before_any_work() {
    let server = Server::start(&[]);
    let began = Instant::now();
    let body = chat(&format!("{}\n\n{QUESTION}", book(9000, 1)), json!({"stream": true}));
    let answer = server.post("/v1/chat/completions", &body);
    let error = &answer.body["error"];
    assert_eq!((answer.status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(error["n_ctx"], 131_072);
    assert!(error["n_prompt_tokens"].as_u64() > Some(131_072), "{error}");
    let words = error["message"].as_str().unwrap_or_default();
    assert!(words.contains("exceeds the available context size (131072 tokens)"), "{words}");
    assert!(began.elapsed() < Duration::from_secs(20), "tokens are counted, nothing is encoded");
    assert_eq!(server.metric("asterism_prompt_tokens_total"), 0.0);
}

#[test]
fn a_stream_is_the_answer_in_pieces() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let content = format!("{}\n\n{QUESTION}", book(60, 90577));
    let more = json!({"stream": true, "return_progress": true,
        "stream_options": {"include_usage": true}});
    let stream = read_all(server.open("/v1/chat/completions", &chat(&content, more)));
    assert!(stream.contains("text/event-stream"), "{stream}");
    let events = events(&stream);
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    let deltas = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
    let whole = server.post("/v1/chat/completions", &chat(&content, json!({}))).body;
    assert_eq!(deltas.collect::<String>(), text(&whole));
    let progress: Vec<_> = events.iter().filter(|e| e["prompt_progress"].is_object()).collect();
    let last = progress.last().expect("progress");
    assert_eq!(last["prompt_progress"]["processed"], last["prompt_progress"]["total"]);
    // No client meets a chunk without a choice but the one that it asked for.
    let without: Vec<_> =
        events.iter().filter(|e| e["choices"].as_array().is_some_and(Vec::is_empty)).collect();
    assert_eq!(without.len(), 1);
    assert!(without[0]["usage"]["total_tokens"].as_u64() > Some(1000));
    let end = events.iter().find(|e| e["choices"][0]["finish_reason"] == "stop").expect("end");
    assert!(end["timings"]["predicted_n"].as_u64() > Some(3) && end["asterism"].is_object());
}

#[test]
fn several_answers_stop_strings_and_likely_tokens() {
    let server = Server::start(&[]);
    let content = format!("{}\n\n{QUESTION}", book(4, 48213));
    let more = json!({"n": 3, "temperature": 1.5, "seed": 7, "max_tokens": 12, "logprobs": true,
        "top_logprobs": 2});
    let body = chat(&content, more);
    let first = server.post("/v1/chat/completions", &body).body;
    assert_eq!(first["choices"].as_array().map(Vec::len), Some(3), "{first}");
    for choice in first["choices"].as_array().expect("choices") {
        let tokens = choice["logprobs"]["content"].as_array().expect("logprobs");
        let ends = |token: &Value| token["token"].as_str().is_some_and(|t| t.starts_with("<|"));
        let bytes = tokens.iter().filter(|token| !ends(token)).flat_map(|token| {
            token["bytes"]
                .as_array()
                .expect("bytes")
                .iter()
                .map(|b| b.as_u64().expect("byte") as u8)
        });
        let spelled = String::from_utf8(bytes.collect()).expect("text");
        assert_eq!(Some(&*spelled), choice["message"]["content"].as_str());
        assert!(tokens.iter().all(|token| token["logprob"].as_f64() <= Some(0.0)));
        assert!(tokens.iter().all(|t| t["top_logprobs"].as_array().map(Vec::len) == Some(2)));
    }
    let again = server.post("/v1/chat/completions", &body).body;
    assert_eq!(again["choices"], first["choices"], "the same seed, the same answers");
    let stopped = server.post("/v1/chat/completions", &chat(&content, json!({"stop": "213"}))).body;
    assert!(text(&stopped).ends_with("48"), "{stopped}");
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
}

#[test]
fn an_answer_follows_a_schema() {
    let server = Server::start(&[]);
    let schema = json!({"type": "object", "properties": {"code": {"type": "integer", "maximum": 99999}},
        "required": ["code"], "additionalProperties": false});
    let format = json!({"response_format": {"type": "json_schema",
        "json_schema": {"name": "code", "schema": schema}}});
    for more in [format, json!({"response_format": {"type": "json_object"}, "max_tokens": 200})] {
        for stream in [false, true] {
            let mut more = more.clone();
            more["stream"] = stream.into();
            let body = chat(&format!("{}\n\n{QUESTION}", book(4, 48213)), more);
            let content = match stream {
                false => text(&server.post("/v1/chat/completions", &body).body).to_owned(),
                true => events(&read_all(server.open("/v1/chat/completions", &body)))
                    .iter()
                    .filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
                    .collect(),
            };
            // The small model need not end an object that may go on for ever.
            let is_bound = body["response_format"]["type"] == "json_schema";
            match serde_json::from_str::<Value>(&content) {
                Ok(value) => assert!(value.is_object() && (!is_bound || value["code"].is_i64())),
                Err(error) => assert!(!is_bound && error.is_eof(), "{content}: {error}"),
            }
        }
    }
    let wrong = json!({"response_format": {"type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "nothing"}}}});
    let refused = server.post("/v1/chat/completions", &chat("Who?", wrong));
    assert_eq!(refused.status, 400, "{refused:?}");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = Server::start(&["--queue", "1"]);
    let long = chat(&format!("{}\n\n{QUESTION}", book(800, 1)), json!({"stream": true}));
    let stream = server.open("/v1/chat/completions", &long);
    server.until("the first is inside", |server| server.get("/v1/status").body["running"] == 1);
    let refused = server.post("/v1/chat/completions", &chat("Who?", json!({})));
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("queue_full")));
    assert!(refused.retry_after.is_some() && refused.should_retry.is_none());
    drop(stream);
    server.until("its place is free", |server| server.get("/v1/status").body["running"] == 0);
    let served = server.post("/v1/chat/completions", &chat("Who?", json!({"max_tokens": 2})));
    assert_eq!(served.status, 200);
}

#[test]
fn who_goes_away_frees_what_it_took_and_disturbs_nobody() {
    let server = Server::start(&[]);
    let content = format!("{}\n\n{QUESTION}", book(20, 48213));
    let expected = server.post("/v1/chat/completions", &chat(&content, json!({}))).body;
    let reserved =
        |server: &Server| server.get("/v1/status").body["memory"]["reserved_bytes"].as_u64();
    let before = reserved(&server);
    // Half-way through the encoding, whether as a stream or not.
    for stream in [true, false] {
        let long = chat(&format!("{}\n\n{QUESTION}", book(1600, 1)), json!({"stream": stream}));
        let stream = server.open("/v1/chat/completions", &long);
        server.until("memory is taken", |server| reserved(server) > before);
        drop(stream);
        let began = Instant::now();
        server.until("it is given up", |server| server.get("/v1/status").body["running"] == 0);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let answer = server.post("/v1/chat/completions", &chat(&content, json!({}))).body;
        assert_eq!(answer["choices"], expected["choices"]);
    }
    // In the middle of an answer.
    let endless = json!({"stream": true, "max_tokens": 20_000, "temperature": 2});
    let mut stream = server.open("/v1/chat/completions", &chat("Tell me.", endless));
    let mut some = [0; 2000];
    stream.read_exact(&mut some).expect("streams");
    drop(stream);
    server.until("it is given up", |server| server.get("/v1/status").body["running"] == 0);
}

#[test]
fn a_slow_reader_holds_nobody_up() {
    let server = Server::start(&[]);
    let more = json!({"stream": true, "max_tokens": 300, "temperature": 2});
    let stream = server.open("/v1/chat/completions", &chat("Tell me.", more));
    // It is answered in full although nobody reads.
    server.until("its place is free", |server| server.get("/v1/status").body["running"] == 0);
    assert_eq!(events(&read_all(stream)).last(), Some(&json!("[DONE]")));
}

#[test]
fn the_same_seed_gives_the_same_answer_whoever_else_asks() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let body = |code: u32| {
        let content = format!("{}\n\n{QUESTION}", book(30, code));
        chat(&content, json!({"temperature": 1.2, "seed": code, "max_tokens": 24}))
    };
    let codes: Vec<u32> = (0..12).map(|i| 10_007 + 7919 * i).collect();
    let alone: Vec<Value> =
        codes.iter().map(|c| server.post("/v1/chat/completions", &body(*c)).body).collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let ask = |code: u32| server.post("/v1/chat/completions", &body(code)).body;
        let asked: Vec<_> = codes.iter().map(|code| scope.spawn(move || ask(*code))).collect();
        asked.into_iter().map(|asked| asked.join().expect("asks")).collect()
    });
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone["choices"], together["choices"]);
    }
}

#[test]
fn only_those_with_a_key_may_ask() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("keys");
    std::fs::write(&file, "sk-from-file\n\n").expect("writes");
    let file = file.to_str().expect("path");
    let server = Server::start(&["--api-key", "sk-one", "--api-key-file", file]);
    let body = chat("Who?", json!({"max_tokens": 2})).to_string();
    let ask = |headers: &[(&str, &str)]| {
        server.raw("/v1/chat/completions", headers, body.as_bytes()).status
    };
    assert_eq!(ask(&[]), 401);
    assert_eq!(ask(&[("authorization", "Bearer sk-on")]), 401);
    assert_eq!(ask(&[("authorization", "Bearer sk-one")]), 200);
    assert_eq!(ask(&[("x-api-key", "sk-from-file")]), 200);
    let refused = server.get("/v1/models");
    assert_eq!(refused.body["error"]["type"], "authentication_error");
    for open in ["/health/live", "/health/ready", "/", "/llms.txt", "/openapi.json"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
}

#[test]
fn a_server_that_is_told_to_stop_ends_what_runs_and_takes_nothing_new() {
    let server = Server::start(&[]);
    let more = json!({"stream": true, "max_tokens": 400, "temperature": 2});
    let stream = server.open("/v1/chat/completions", &chat("Tell me.", more));
    server.until("it runs", |server| server.get("/v1/status").body["running"] == 1);
    server.terminate();
    assert_eq!(events(&read_all(stream)).last(), Some(&json!("[DONE]")), "it is answered in full");
    let began = Instant::now();
    assert!(server.ended().success());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_does_not_end_in_time_is_ended() {
    let server = Server::start(&["--drain", "1"]);
    let long = chat(&format!("{}\n\n{QUESTION}", book(1600, 1)), json!({"stream": true}));
    let stream = server.open("/v1/chat/completions", &long);
    server.until("it runs", |server| server.get("/v1/status").body["running"] == 1);
    let began = Instant::now();
    server.terminate();
    let text = read_all(stream);
    assert!(!text.contains("[DONE]"), "{text}");
    server.ended();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn a_request_that_takes_too_long_is_given_up() {
    let server = Server::start(&["--timeout", "1"]);
    let long = chat(&format!("{}\n\n{QUESTION}", book(1600, 1)), json!({}));
    let answer = server.post("/v1/chat/completions", &long);
    assert_eq!((answer.status, &answer.body["error"]["code"]), (504, &json!("timeout")));
    server.until("its place is free", |server| server.get("/v1/status").body["running"] == 0);
}

#[test]
fn completions_continue_a_text_as_it_is() {
    let server = Server::start(&[]);
    let prompt = "The sky is blue. The sky is blue. The sky is";
    let body = json!({"model": "nano", "prompt": [prompt], "max_tokens": 3, "logprobs": 1});
    let answer = server.post("/v1/completions", &body).body;
    assert_eq!(answer["choices"][0]["text"].as_str().map(|t| &t[..5]), Some(" blue"), "{answer}");
    let offsets = &answer["choices"][0]["logprobs"]["text_offset"];
    assert_eq!(offsets.as_array().map(Vec::len), Some(3), "{answer}");
}

#[test]
fn tokens_are_counted_before_they_are_sent() {
    let server = Server::start(&[]);
    let tokens = server.post("/tokenize", &json!({"content": "The sea was calm."})).body;
    let content = server.post("/detokenize", &json!({"tokens": tokens["tokens"]})).body;
    assert_eq!(content["content"], "The sea was calm.");
    let body = chat(&format!("{}\n\n{QUESTION}", book(10, 5)), json!({"max_tokens": 2}));
    let counted = server.post("/v1/chat/completions/input_tokens", &body).body;
    let answered = server.post("/v1/chat/completions", &body).body;
    assert_eq!(counted["input_tokens"], answered["usage"]["prompt_tokens"]);
}

#[test]
fn a_request_keeps_the_name_that_it_came_with() {
    let server = Server::start(&[]);
    let named = server.raw("/tokenize", &[("x-request-id", "mine-7")], b"{\"content\": \"x\"}");
    assert_eq!(named.request_id.as_deref(), Some("mine-7"));
    assert!(server.get("/health/live").request_id.is_some_and(|id| id.starts_with("req_")));
}

#[test]
fn bodies_have_a_bound() {
    let server = Server::start(&["--max-body", "1"]);
    let large = json!({"content": "x".repeat(2 << 20)}).to_string();
    let mut stream = std::net::TcpStream::connect(&server.address).expect("connects");
    let head = format!(
        "POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        large.len()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    // It may be refused before all of it was sent.
    let _ = stream.write_all(large.as_bytes());
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).expect("answers");
    assert!(answer[..count].starts_with(b"HTTP/1.1 413"), "{:?}", &answer[..count]);
}

/// A copy of nano whose last norm has a weight that is no number.
fn damaged_nano(folder: &std::path::Path) {
    let nano = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    for entry in std::fs::read_dir(nano).expect("nano") {
        let path = entry.expect("entry").path();
        let mut bytes = std::fs::read(&path).expect("reads");
        if path.extension().is_some_and(|kind| kind == "safetensors") {
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8")) as usize;
            let tensors: Value = serde_json::from_slice(&bytes[8..header]).expect("JSON");
            if let Some(at) = tensors["model.norm.weight"]["data_offsets"][0].as_u64() {
                let at = header + at as usize;
                bytes[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
            }
        }
        std::fs::write(folder.join(path.file_name().expect("name")), bytes).expect("writes");
    }
}

#[test]
fn what_is_no_number_is_an_error_and_never_text() {
    let folder = tempfile::tempdir().expect("folder");
    damaged_nano(folder.path());
    let model = folder.path().to_str().expect("UTF-8");
    let server = Server::start(&["--model", model, "--model-id", "nano"]);
    let path = "/v1/chat/completions";
    let answer = server.post(path, &chat(&book(4, 1), json!({})));
    let code = answer.body["error"]["code"].as_str();
    assert_eq!((answer.status, code), (500, Some("not_finite")), "{answer:?}");
    // In a stream the error comes before any text, by the status or as the only chunk.
    let text = read_all(server.open(path, &chat(&book(4, 1), json!({"stream": true}))));
    assert!(text.contains("not_finite") && !text.contains("\"content\":\"T"), "{text}");
    // The place is free a moment after the client hears of it.
    server.until("idle", |server| server.metric("asterism_num_requests_running") == 0.0);
}
