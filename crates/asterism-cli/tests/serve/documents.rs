//! Files as they are: PDFs, books, Word files, texts in any encoding.

use super::QUESTION;
use super::server::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;

/// A file of another program, made for the crate that reads them.
fn made(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../asterism-documents/tests/files");
    std::fs::read(folder.join(name)).expect("file")
}

fn given(name: &str, bytes: &[u8]) -> Value {
    json!({"name": name, "data": STANDARD.encode(bytes)})
}

/// The place of the first source of the answer of `context` that has the fact.
fn place(server: &Server, context: &str) -> Value {
    let ask = json!({"question": QUESTION, "sources": true, "max_tokens": 24});
    let answers = server.post(&format!("/v1/contexts/{context}/ask"), &ask).body;
    let first = &answers["answers"][0];
    assert!(first["answer"].as_str().is_some_and(|a| a.contains("48213")), "{answers}");
    let has_it = |source: &&Value| source["passage"].as_str().is_some_and(|p| p.contains("48213"));
    let source = first["sources"].as_array().and_then(|all| all.iter().find(has_it));
    source.unwrap_or_else(|| panic!("{answers:#}"))["places"][0].clone()
}

#[test]
fn a_pdf_becomes_a_context_whose_sources_name_its_pages() {
    let server = Server::start(&["--block", "1k", "--anchor", "256"]);
    let documents =
        json!([given("report.pdf", &made("columns.pdf")), given("tex.pdf", &made("tex.pdf"))]);
    let body = json!({"name": "papers", "documents": documents, "wait": true});
    let made_it = server.post("/v1/contexts", &body);
    assert_eq!(made_it.status, 201, "{made_it:?}");
    let note = json!({"document": "report.pdf", "note": "page 4: no text, scanned?"});
    assert_eq!(made_it.body["notes"], json!([note]));
    let place = place(&server, "papers");
    let read = String::from_utf8(made("read/tex.pdf.txt")).expect("text");
    let page = read[..read.find("48213").expect("fact")].matches('\u{c}').count() + 1;
    let first = place["page"].as_u64().expect("page") as usize;
    // Its passage may begin on the page before.
    assert!(first == page || first + 1 == page, "{place}");
    assert!(place["cite"].as_str().expect("place").starts_with("tex.pdf, page"), "{place}");

    // Another file in its place: only that document is another.
    let data = json!({"data": STANDARD.encode(made("writer.docx"))});
    let changed = server.call("PUT", "/v1/contexts/papers/documents/writer.docx", &data);
    assert_eq!(changed.status, 200, "{changed:?}");
    assert!(changed.body["reused_blocks"].as_u64().expect("blocks") >= 5, "{changed:?}");
    let gone = server.call("DELETE", "/v1/contexts/papers/documents/tex.pdf", &json!({}));
    assert_eq!(gone.status, 200, "{gone:?}");
    let place = self::place(&server, "papers");
    assert_eq!(place["cite"], "writer.docx, \"Solitude\"", "{place}");
}

#[test]
fn a_file_is_read_as_text_and_nothing_is_kept() {
    let server = Server::start(&[]);
    let read = |file: Value| server.post("/v1/documents", &file);
    let page =
        read(given("page.html", b"<title>Sea</title><p>caf&eacute; <b>au</b> lait</p>")).body;
    assert_eq!(
        (&page["kind"], &page["text"]),
        (&json!("html"), &json!("# Sea\n\ncaf\u{e9} **au** lait\n"))
    );
    let guessed = read(given("a.txt", b"caf\xe9 au lait")).body;
    assert_eq!(guessed["encoding"], "windows-1252");
    assert_eq!(guessed["notes"], json!(["read as windows-1252, a guess"]));
    let mut file = given("a.txt", b"caf\xe9");
    file["encoding"] = "koi8-r".into();
    assert_eq!(read(file.clone()).body["text"], "caf\u{418}");
    file["encoding"] = "klingon".into();
    let refused = read(file);
    assert_eq!((refused.status, &refused.body["error"]["param"]), (400, &json!("encoding")));
    assert_eq!(server.get("/v1/contexts").body["data"], json!([]));
}

#[test]
fn a_file_that_breaks_its_reader_is_refused_by_name_and_the_next_is_served() {
    let server = Server::start(&["--read-seconds", "1"]);
    let slow = format!("<html>{}", "<b><i><u><p></b></i>x".repeat(400_000));
    for (file, code) in [
        (given("scanned.pdf", &made("scanned.pdf")), "file_without_text"),
        (given("cut.epub", &made("book.epub")[..9000]), "file_damaged"),
        (given("slow.html", slow.as_bytes()), "file_takes_too_long"),
        (given("a.png", b"\x89PNG\r\n\0"), "file_binary"),
        (json!({"name": "a.pdf", "data": "?"}), "invalid_value"),
    ] {
        let name = file["name"].as_str().expect("name").to_owned();
        let answer = server.post("/v1/contexts", &json!({"documents": [file]}));
        let error = &answer.body["error"];
        assert_eq!((answer.status, &error["code"]), (400, &json!(code)), "{error}");
        assert!(error["message"].as_str().is_some_and(|m| m.contains(&name)), "{error}");
    }
    let good = server.post("/v1/documents", &given("a.txt", b"fine"));
    assert_eq!((good.status, &good.body["text"]), (200, &json!("fine")));
}
