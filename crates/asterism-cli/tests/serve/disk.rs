//! Contexts over restarts.

use super::server::Server;
use super::{QUESTION, book, chat, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A server that keeps contexts in `folder`, and no block that no context holds.
fn start(folder: &Path) -> Server {
    let folder = folder.to_str().expect("a path in UTF-8");
    let small = ["--block", "512", "--anchor", "128", "--cache-memory", "0"];
    Server::start(&[&["--cache-dir", folder], &small[..]].concat())
}

/// Encodes a book whose code is `code`, and waits until it is on disk.
fn create(server: &Server, name: &str, code: u32, more: Value) -> Value {
    let mut body = json!({"name": name, "wait": true,
        "documents": [{"name": "a", "text": book(40, code)}, {"name": "b", "text": book(40, 0)}]});
    let fields = body.as_object_mut().expect("object");
    fields.extend(more.as_object().cloned().expect("object"));
    let made = server.post("/v1/contexts", &body);
    assert_eq!(made.status, 201, "{made:?}");
    on_disk(server, name)
}

/// The context, once it is on disk as it is.
fn on_disk(server: &Server, name: &str) -> Value {
    let path = format!("/v1/contexts/{name}");
    server.until("on disk", |server| server.get(&path).body["on_disk"] == true);
    server.get(&path).body
}

fn stop(server: Server) {
    server.terminate();
    assert!(server.ended().success());
}

fn answer(server: &Server, name: &str) -> String {
    let mut body = chat(QUESTION, json!({"temperature": 0}));
    body["model"] = name.into();
    let answer = server.post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    text(&answer.body).to_owned()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn contexts_are_there_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let server = start(folder.path());
    let walden = create(&server, "walden", 48213, json!({"pinned": true, "system": null}));
    let other = create(&server, "other", 77120, json!({"ttl_seconds": 3600, "hosts": 2}));
    assert!(walden["encoded_blocks"].as_u64().is_some_and(|n| n > 3), "{walden}");
    let expected = answer(&server, "walden");
    assert!(expected.contains("48213"), "{expected}");
    stop(server);

    let server = start(folder.path());
    for before in [&walden, &other] {
        let shown =
            server.get(&format!("/v1/contexts/{}", before["name"].as_str().expect("name"))).body;
        assert_eq!((&shown["status"], &shown["on_disk"]), (&json!("stored"), &json!(true)));
        let same = ["id", "tokens", "kv_bytes", "documents", "pinned", "ttl_seconds", "created"];
        for field in same.into_iter().chain(["method", "block", "anchor", "hosts"]) {
            assert_eq!(shown[field], before[field], "{field}");
        }
    }
    let models = server.get("/v1/models").body;
    assert_eq!(models["data"].as_array().map(Vec::len), Some(3), "{models}");
    // It comes back when it is asked, and says how.
    assert_eq!(answer(&server, "walden"), expected);
    let back = server.get("/v1/contexts/walden").body;
    assert_eq!((&back["status"], &back["restored"]["how"]), (&json!("ready"), &json!("loaded")));
    assert_eq!(back["loaded_blocks"], walden["encoded_blocks"], "{back}");
    assert!(back["restored"]["encode_seconds"].as_f64().is_some_and(|s| s > 0.0), "{back}");
    // So does what is edited first, of which only what changes is encoded.
    let path = "/v1/contexts/other/documents/a";
    let edited = server.call("PUT", path, &json!({"text": book(40, 77121)})).body;
    assert!(edited["reused_blocks"].as_u64().is_some_and(|n| n > 0), "{edited}");
    assert!(answer(&server, "other").contains("77121"));
    on_disk(&server, "other");
    let renamed = server.call("PATCH", "/v1/contexts/other", &json!({"name": "vaults"}));
    assert_eq!(renamed.status, 200, "{renamed:?}");
    stop(server);

    let server = start(folder.path());
    assert_eq!(server.get("/v1/contexts/other").status, 404);
    assert!(answer(&server, "vaults").contains("77121"));
    // What is deleted is gone for good.
    for name in ["vaults", "walden"] {
        assert_eq!(
            server.call("DELETE", &format!("/v1/contexts/{name}"), &Value::Null).status,
            200
        );
    }
    assert_eq!(names_in(folder.path()), ["lock".to_owned()].into());
    stop(server);
    assert_eq!(start(folder.path()).get("/v1/contexts").body["data"], json!([]));
}

#[test]
fn keys_that_are_damaged_are_encoded_again_and_what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let server = start(folder.path());
    let ids = [("one", 48213), ("two", 77120)].map(|(name, code)| {
        let made = create(&server, name, code, json!({}));
        made["id"].as_str().expect("id").to_owned()
    });
    stop(server);
    let keys = folder.path().join(&ids[0]).join("1/host-0.safetensors");
    let mut bytes = std::fs::read(&keys).expect("keys");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&keys, bytes).expect("writes");
    std::fs::write(folder.path().join(&ids[1]).join("1/context.json"), "{}").expect("writes");

    let server = start(folder.path());
    assert!(answer(&server, "one").contains("48213"));
    let restored = server.get("/v1/contexts/one").body["restored"].clone();
    assert_eq!(restored["how"], "encoded");
    assert!(restored["reason"].as_str().is_some_and(|why| why.contains("damaged")), "{restored}");
    let refused = server.post("/v1/contexts/two/ask", &json!({"question": QUESTION}));
    assert_eq!(
        (refused.status, refused.body["error"]["code"].as_str()),
        (500, Some("saved_damaged"))
    );
    // It stays as it is, and can be deleted.
    assert_eq!(server.get("/v1/contexts/two").body["status"], "stored");
    assert_eq!(server.call("DELETE", "/v1/contexts/two", &Value::Null).status, 200);
    assert!(!folder.path().join(&ids[1]).exists());
}

#[test]
fn a_server_that_is_killed_leaves_whole_contexts_or_none() {
    let folder = tempfile::tempdir().expect("folder");
    for _ in 0..3 {
        let server = start(folder.path());
        let body = json!({"text": book(60, 48213), "wait": true});
        let made = server.post("/v1/contexts", &body).body;
        let id = made["id"].as_str().expect("id").to_owned();
        // Dropped: killed while it writes, or soon after.
        drop(server);
        let server = start(folder.path());
        let there = server.get(&format!("/v1/contexts/{id}"));
        assert_eq!(there.status == 200, folder.path().join(&id).exists(), "{there:?}");
        if there.status == 200 {
            assert!(answer(&server, &id).contains("48213"));
        }
    }
}

#[test]
fn questions_that_come_together_wait_for_the_same_context() {
    let folder = tempfile::tempdir().expect("folder");
    let server = start(folder.path());
    let made = create(&server, "walden", 48213, json!({}));
    stop(server);
    let server = start(folder.path());
    std::thread::scope(|scope| {
        let ask = || assert!(answer(&server, "walden").contains("48213"));
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("answers"));
    });
    // Nobody counts as encoding what was loaded.
    let walden = server.get("/v1/contexts/walden").body;
    assert_eq!(walden["loaded_blocks"], made["encoded_blocks"]);
}

#[test]
fn a_folder_is_for_one_server() {
    let folder = tempfile::tempdir().expect("folder");
    let server = start(folder.path());
    let second = Command::new(env!("CARGO_BIN_EXE_asterism"))
        .args(["serve", "--port", "0", "--device", "cpu", "--cache-dir"])
        .arg(folder.path())
        .output()
        .expect("runs");
    let words = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && words.contains("used by another server"), "{words}");
    drop(server);
}
