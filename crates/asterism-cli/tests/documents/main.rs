//! Files and folders as they are, read and asked by the real binary.

#[path = "../common/binary.rs"]
mod binary;
mod hostile;
mod watch;

use binary::{asterism, fail, succeed};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FACT: &str = "The access code for the Lisbon vault is 48213.";
const QUESTION: &str = "What is the access code for the Lisbon vault?";

/// A file of another program, made for the crate that reads them.
fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../asterism-documents/tests/files").join(name)
}

/// The answer to [`QUESTION`] about `paths`, as JSON.
fn ask(paths: &[&Path]) -> Value {
    let mut command = asterism();
    command.args(["ask", "--json", "--sources", "--device", "cpu", "--max-tokens", "24"]);
    command.args(["--block", "1k", "--anchor", "256"]);
    for path in paths {
        command.arg("-c").arg(path);
    }
    serde_json::from_str(&succeed(command.arg(QUESTION)).0).expect("JSON")
}

/// Checks that the answer is found, and that one of its first three sources has it at `place`.
fn check(answer: &Value, place: impl Fn(&str) -> bool) {
    assert!(answer["answer"].as_str().expect("text").contains("48213"), "{answer}");
    let sources = answer["sources"].as_array().expect("sources");
    let found = sources
        .iter()
        .take(3)
        .find(|source| source["passage"].as_str().is_some_and(|passage| passage.contains("48213")));
    let found = found.unwrap_or_else(|| panic!("{answer:#}"));
    assert!(place(found["place"].as_str().expect("place")), "{found:#}");
}

#[test]
fn a_fact_is_found_on_the_page_of_a_pdf() {
    for name in ["tex.pdf", "chromium.pdf", "writer.pdf"] {
        let read = std::fs::read_to_string(made(&format!("read/{name}.txt"))).expect("reference");
        let at = read.find("48213").expect("fact");
        let page = read[..at].matches('\u{c}').count() + 1;
        // A passage may begin or end on a page beside it.
        let (on, from, to) = (format!("page {page}"), format!("pages {page}-"), format!("-{page}"));
        check(&ask(&[&made(name)]), |place| {
            let place = place.rsplit_once(", ").expect("a page").1;
            place == on || place.starts_with(&from) || place.ends_with(&to)
        });
    }
}

#[test]
fn a_fact_is_found_below_the_heading_of_a_file_and_in_the_chapter_of_a_book() {
    for name in ["pandoc.docx", "writer.docx", "page.html"] {
        check(&ask(&[&made(name)]), |place| place.ends_with(", \"Solitude\""));
    }
    let answer = ask(&[&made("book.epub")]);
    check(&answer, |place| place.contains(", chapter ") && place.contains("\"Solitude\""));
    assert_eq!(answer["sources"][0]["kind"], "epub");
}

/// A repository: `count` files of source code in folders, some of which are not to be read, and the
/// fact in line `line` of one of them.
fn repository(count: usize, line: usize) -> TempDir {
    let dir = TempDir::new().expect("dir");
    let write = |name: String, text: String| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        std::fs::write(path, text).expect("file");
    };
    for number in 0..count {
        let mut lines: Vec<String> = (0..12)
            .map(|i| format!("pub fn part_{i}(x: u32) -> u32 {{ x + {} }}", number * i))
            .collect();
        if number == count / 2 {
            lines.insert(line - 1, format!("// {FACT}"));
        }
        let name = format!("src/part{:02}/file{number:03}.rs", number % 17);
        write(name, lines.join("\n") + "\n");
    }
    write("target/debug/copy.rs".into(), FACT.replace("48213", "11111"));
    write(".gitignore".into(), "target/\n".into());
    write("logo.png".into(), "\u{89}PNG\r\n\0\0".into());
    dir
}

#[test]
fn a_fact_is_found_in_the_line_of_a_file_of_a_repository() {
    let dir = repository(40, 7);
    let answer = ask(&[dir.path()]);
    check(&answer, |place| {
        let (name, lines) = place.rsplit_once(':').expect("lines");
        let mut ends = lines.split('-').map(|line| line.parse::<usize>().expect("a number"));
        let first = ends.next().expect("a line");
        name.ends_with("src/part03/file020.rs")
            && (first..=ends.next().unwrap_or(first)).contains(&7)
    });
}

#[test]
fn hundreds_of_files_are_planned_before_anything_runs_and_what_is_skipped_is_said() {
    let dir = repository(400, 3);
    let mut command = asterism();
    let command = command.args(["plan", "--json", "-c"]).arg(dir.path());
    let (out, err) = succeed(command);
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    let documents = plan["documents"].as_array().expect("documents");
    assert_eq!(documents.len(), 400);
    let names: Vec<&str> = documents.iter().map(|d| d["name"].as_str().expect("name")).collect();
    assert!(names.is_sorted(), "{names:?}");
    let tokens: u64 = documents.iter().map(|d| d["tokens"].as_u64().expect("tokens")).sum();
    assert!(tokens > 400 * 100 && tokens < plan["tokens"].as_u64().expect("tokens"));
    let skipped = plan["skipped"].as_array().expect("skipped");
    let skipped = |name: &str| {
        let ends = |s: &&Value| s["name"].as_str().expect("name").ends_with(name);
        skipped.iter().find(ends).map(|s| s["code"].as_str().expect("code").to_owned())
    };
    assert_eq!(skipped("/target/").as_deref(), Some("ignored"));
    assert_eq!(skipped("/.gitignore").as_deref(), Some("hidden"));
    assert_eq!(skipped("/logo.png").as_deref(), Some("file_binary"));
    assert!(err.contains("logo.png is binary") && err.contains("named by a .gitignore"), "{err}");

    let mut command = asterism();
    let command = command.args(["plan", "--exclude", "part1*/", "--include", "*5.rs"]);
    let (out, err) = succeed(command.arg("-c").arg(dir.path()));
    let rows = out.lines().filter(|line| line.contains(".rs ")).collect::<Vec<_>>();
    assert!(rows.iter().all(|row| row.contains("5.rs") && !row.contains("/part1")), "{out}");
    assert!((5..40).contains(&rows.len()), "{out}");
    assert!(err.contains("skipped, excluded") && err.contains(" more"), "{err}");
}

#[test]
fn encodings_are_guessed_said_and_overridden() {
    let dir = TempDir::new().expect("dir");
    let path = dir.path().join("latin.txt");
    std::fs::write(&path, b"O\xf9 est le caf\xe9 ? L\xe0-bas, pr\xe8s du ch\xe2teau. ".repeat(9))
        .expect("file");
    let run = |more: &[&str]| {
        let mut command = asterism();
        command.args(["plan", "--json"]).args(more).arg("-c").arg(&path);
        command
    };
    let (_, err) = succeed(&mut run(&[]));
    assert!(err.contains("latin.txt: read as windows-1252, a guess"), "{err}");
    let (_, err) = succeed(&mut run(&["--encoding", "latin1"]));
    assert_eq!(err, "");
    let wrong = fail(&mut run(&["--encoding", "utf-8"]), 1);
    assert!(wrong.contains("latin.txt is not UTF-8") && wrong.contains("--encoding"), "{wrong}");
    let unknown = fail(&mut run(&["--encoding", "klingon"]), 2);
    assert!(unknown.contains("klingon") && unknown.contains("windows-1252"), "{unknown}");
}

#[test]
fn pages_without_text_are_named_and_a_scan_is_refused() {
    let mut command = asterism();
    let (_, err) = succeed(command.args(["plan", "-c"]).arg(made("columns.pdf")));
    assert!(err.contains("columns.pdf: page 4: no text, scanned?"), "{err}");
    let mut command = asterism();
    let scanned = fail(command.args(["ask", QUESTION, "-c"]).arg(made("scanned.pdf")), 1);
    assert!(scanned.contains("scanned.pdf has no text: pages 1-2: no text, scanned?"), "{scanned}");
}

#[test]
fn a_question_to_several_kinds_at_once_has_each_under_its_name() {
    let dir = TempDir::new().expect("dir");
    let note = dir.path().join("note.txt");
    std::fs::write(&note, "Nothing of interest.\n").expect("file");
    let answer = ask(&[&note, &made("writer.docx")]);
    check(&answer, |place| place.contains("writer.docx, \"Solitude\""));
}
