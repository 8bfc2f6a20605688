//! Contexts with a name.

use super::server::{Answer, Server, events, read_all};
use super::{QUESTION, book, chat, text};
use serde_json::{Value, json};

fn create(server: &Server, body: Value) -> Answer {
    server.post("/v1/contexts", &body)
}

fn states(context: &Value) -> Vec<(String, Option<String>)> {
    let blocks = context["blocks"].as_array().unwrap_or_else(|| panic!("{context}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let state = |block: &Value| (text(&block["state"]).expect("state"), text(&block["change"]));
    blocks.iter().map(state).collect()
}

#[test]
fn a_context_is_encoded_once_and_asked_by_name() {
    let server = Server::start(&["--block", "1k", "--anchor", "256"]);
    let made = create(&server, json!({"name": "vaults", "text": book(100, 48213), "wait": true}));
    assert_eq!((made.status, &made.body["status"]), (201, &json!("ready")), "{made:?}");
    let ask = json!({"questions": [QUESTION, "What colour is the sky?"], "sources": true});
    let answers = server.post("/v1/contexts/vaults/ask", &ask).body;
    let first = &answers["answers"][0];
    assert!(first["answer"].as_str().is_some_and(|a| a.contains("48213")), "{answers}");
    assert_eq!(answers["answers"].as_array().map(Vec::len), Some(2));
    let place = &first["sources"][0]["places"][0];
    assert_eq!(place["document"], "vaults", "{first}");
    let block = first["sources"][0]["block"].as_u64().expect("block");
    let block = server.get(&format!("/v1/contexts/vaults/blocks/{block}")).body;
    assert!(block["text"].as_str().is_some_and(|text| text.contains("48213")), "{block}");
    // It is a model of its own, also for a conversation.
    let models = server.get("/v1/models").body;
    let ids: Vec<_> = models["data"].as_array().expect("models").iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["nano", "vaults"]);
    let mut body = chat(QUESTION, json!({"model": "vaults"}));
    let answer = server.post("/v1/chat/completions", &body).body;
    assert!(text(&answer).contains("48213"), "{answer}");
    assert_eq!(answer["asterism"]["context"], "vaults");
    assert_eq!(answer["timings"]["cache_n"], made.body["tokens"]);
    let turns = body["messages"].as_array_mut().expect("messages");
    turns.push(json!({"role": "assistant", "content": text(&answer)}));
    turns.push(json!({"role": "user", "content": QUESTION}));
    let again = server.post("/v1/chat/completions", &body).body;
    assert!(text(&again).contains("48213"), "{again}");
}

#[test]
fn another_method_can_be_asked_of_the_same_context() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    create(&server, json!({"name": "vaults", "text": book(40, 48213), "wait": true}));
    for (more, method) in [
        (json!({"method": "dense"}), "dense"),
        (json!({"method": "ring", "hosts": 2}), "ring"),
        (json!({"revisit": 256}), "star"),
        (json!({"block": 256, "anchor": 0, "revisit": "10%"}), "star"),
    ] {
        let mut body = chat(QUESTION, more);
        body["model"] = "vaults".into();
        let answer = server.post("/v1/chat/completions", &body).body;
        assert!(text(&answer).contains("48213"), "{answer}");
        let ours = &answer["asterism"];
        assert_eq!(ours["method"], method);
        let revisits = !body["revisit"].is_null();
        assert_eq!(ours["revisited"]["tokens"].as_u64() > Some(0), revisits, "{answer}");
    }
}

#[test]
fn a_dry_run_says_what_it_would_take_and_encodes_nothing() {
    let server = Server::start(&["--block", "1k", "--anchor", "256"]);
    let body = json!({"text": book(100, 1), "dry_run": true});
    let plan = create(&server, body);
    assert_eq!((plan.status, &plan.body["object"]), (200, &json!("plan")));
    assert_eq!(plan.body["fits"], true);
    assert!(plan.body["seconds"].is_null(), "nothing was measured yet");
    assert!(plan.body["kv_bytes"].as_u64() > Some(1 << 20));
    let blocks = plan.body["blocks"].as_array().expect("blocks");
    let tokens: u64 = blocks.iter().map(|block| block["tokens"].as_u64().expect("tokens")).sum();
    assert_eq!(Some(tokens), plan.body["tokens"].as_u64());
    assert_eq!(server.get("/v1/contexts").body["data"], json!([]));
}

#[test]
fn an_edit_of_one_document_leaves_the_blocks_of_the_others() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let (sky, sea) = ("The sky is blue. ".repeat(300), "Das Meer ist kalt. ".repeat(300));
    let documents = json!([{"name": "sky.txt", "text": sky}, {"name": "sea.txt", "text": sea}]);
    let made = create(&server, json!({"name": "both", "documents": documents, "wait": true})).body;
    assert!(states(&made).iter().all(|(state, change)| state == "encoded" && change.is_none()));
    let read = server.get("/v1/contexts/both/documents/sea.txt").body;
    assert_eq!(read["text"], sea);
    let secret = format!("{sea}The access code for the Lisbon vault is 48213. ");
    let path = "/v1/contexts/both/documents/sea.txt";
    let edited = server.call("PUT", path, &json!({"text": secret})).body;
    let states = states(&edited);
    let anew: Vec<_> = (0..).zip(&states).filter(|(_, (state, _))| state == "encoded").collect();
    assert!(anew.len() == 1 && anew[0].1.1.as_deref() == Some("edited"), "{states:?}");
    // Who watches sees the same block change.
    let Value::String(log) = server.get("/v1/contexts/both/events").body else { panic!("text") };
    let seen = events(&log);
    let mut seen = seen.iter().filter(|event| event["state"] == "encoded").map(|e| &e["index"]);
    assert_eq!((seen.next(), seen.next()), (Some(&json!(anew[0].0)), None), "{log}");
    let ask = json!({"question": QUESTION});
    let answer = server.post("/v1/contexts/both/ask", &ask).body;
    assert!(
        answer["answers"][0]["answer"].as_str().is_some_and(|a| a.contains("48213")),
        "{answer}"
    );
    // A document that is new, and one that goes.
    let new = server.call("PUT", "/v1/contexts/both/documents/new.txt", &json!({"text": sky})).body;
    assert_eq!(new["documents"].as_array().map(Vec::len), Some(3));
    let gone = server.call("DELETE", "/v1/contexts/both/documents/sky.txt", &json!({}));
    assert_eq!(gone.body["documents"].as_array().map(Vec::len), Some(2), "{gone:?}");
    let none = server.call("DELETE", "/v1/contexts/both/documents/sky.txt", &json!({}));
    assert_eq!(none.status, 404);
}

#[test]
fn what_happens_can_be_watched_and_taken_up_again() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let made = create(&server, json!({"name": "long", "text": book(200, 1)}));
    assert_eq!((made.status, &made.body["status"]), (202, &json!("encoding")), "{made:?}");
    let early = server.post("/v1/contexts/long/ask", &json!({"question": "Who?"}));
    assert_eq!((early.status, &early.body["error"]["code"]), (409, &json!("context_not_ready")));
    let Value::String(all) = server.get("/v1/contexts/long/events").body else { panic!("text") };
    let kinds: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("planned", "ready"));
    let seen = events(&all);
    let blocks = seen.iter().filter(|event| event["state"] == "encoded").count();
    assert_eq!(Some(blocks), seen[0]["blocks"].as_array().map(Vec::len));
    let ids: Vec<u64> =
        all.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    let resume = format!("{}", ids[ids.len() - 2]);
    let raw = std::net::TcpStream::connect(&server.address).expect("connects");
    use std::io::Write;
    write!(
        &raw,
        "GET /v1/contexts/long/events HTTP/1.1\r\nhost: x\r\nlast-event-id: {resume}\r\n\
         connection: close\r\n\r\n"
    )
    .expect("sends");
    let rest = events(&read_all(raw));
    assert_eq!((rest.len(), &rest[0]["status"]), (1, &json!("ready")));
}

#[test]
fn equal_contexts_share_one_encode_and_an_interrupted_one_continues() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let body = |name: &str| json!({"name": name, "text": book(400, 1)});
    create(&server, body("first"));
    create(&server, body("second"));
    let status = |name: &str| server.get(&format!("/v1/contexts/{name}")).body["status"].clone();
    server.until("both are ready", |_| status("first") == "ready" && status("second") == "ready");
    let work: u64 = ["first", "second"]
        .iter()
        .map(|name| server.get(&format!("/v1/contexts/{name}")).body)
        .map(|context| context["kv_bytes"].as_u64().expect("bytes"))
        .sum();
    let reserved = server.get("/v1/status").body["memory"]["reserved_bytes"].as_u64();
    assert!(reserved < Some(work), "they share their keys: {reserved:?} of {work}");
    // Stopped half-way, and begun again: what was finished is there.
    let other = json!({"name": "third", "text": book(400, 2), "block": 256, "anchor": 64});
    create(&server, other.clone());
    let progress = |s: &Server| s.get("/v1/contexts/third").body["progress"].as_f64();
    server.until("half is done", |server| progress(server) > Some(0.5));
    let gone = server.call("DELETE", "/v1/contexts/third", &json!({}));
    assert_eq!(gone.body["deleted"], true);
    let mut again = other;
    again["wait"] = true.into();
    let again = create(&server, again).body;
    assert!(again["reused_blocks"].as_u64() > Some(5), "{}", again["reused_blocks"]);
}

#[test]
fn contexts_are_renamed_pinned_and_forgotten() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let make = |name: &str, ttl: Value| {
        let body = json!({"name": name, "text": book(4, 1), "wait": true, "ttl_seconds": ttl});
        create(&server, body)
    };
    let id = make("one", json!(null)).body["id"].as_str().expect("id").to_owned();
    assert_eq!(make("one", json!(null)).status, 409, "the name is taken");
    assert_eq!(make("nano", json!(null)).status, 409, "it is the model's");
    let path = format!("/v1/contexts/{id}");
    let renamed = server.call("PATCH", &path, &json!({"name": "two", "pinned": true})).body;
    assert_eq!((&renamed["name"], &renamed["pinned"]), (&json!("two"), &json!(true)));
    assert_eq!(server.get("/v1/contexts/one").status, 404);
    make("short", json!(1));
    server.until("its time is over", |s| s.get("/v1/contexts/short").status == 404);
    assert_eq!(server.get("/v1/contexts/two").status, 200);
    assert_eq!(server.call("DELETE", "/v1/contexts/two", &json!({})).status, 200);
    assert_eq!(server.get("/v1/contexts").body["data"], json!([]));
}

#[test]
fn files_come_in_a_form() {
    let server = Server::start(&["--block", "512", "--anchor", "128"]);
    let part = |name: &str, file: &str, text: &[u8]| {
        let head = match file {
            "" => format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n"),
            file => format!(
                "--x\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
                 content-type: text/plain\r\n\r\n"
            ),
        };
        [head.as_bytes(), text, b"\r\n"].concat()
    };
    let form = |parts: &[Vec<u8>]| [parts.concat(), b"--x--\r\n".to_vec()].concat();
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    let good = form(&[
        part("name", "", b"files"),
        part("wait", "", b"true"),
        part("block", "", b"256"),
        part("files", "a.txt", "\u{feff}Der Code ist grün.".as_bytes()),
        part("files", "b.txt", book(4, 48213).as_bytes()),
    ]);
    let made = server.raw("/v1/contexts", &kind, &good);
    assert_eq!((made.status, &made.body["block"]), (201, &json!(256)), "{made:?}");
    let read = server.get("/v1/contexts/files/documents/a.txt").body;
    assert_eq!(read["text"], "Der Code ist grün.");
    let bad = form(&[part("files", "c.pdf", b"%PDF\xff\xfe")]);
    let refused = server.raw("/v1/contexts", &kind, &bad);
    let words = refused.body["error"]["message"].as_str().unwrap_or_default();
    assert!(refused.status == 400 && words.contains("c.pdf"), "{refused:?}");
    let cut = server.raw("/v1/contexts", &kind, &good[..good.len() / 2]);
    assert_eq!(cut.status, 400, "{cut:?}");
}
