//! Files that want to crash, to loop, or to take everything: one error that names the file, soon,
//! and nothing else is lost.

use super::{QUESTION, asterism, fail, made, succeed};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

const CONTAINER: &str = "<container><rootfiles><rootfile full-path=\"content.opf\"/></rootfiles>\
                         </container>";
const DOCUMENT: &str = "word/document.xml";

/// An archive of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).expect("file");
        zip.write_all(bytes).expect("bytes");
    }
    zip.finish().expect("archive").into_inner()
}

fn docx(body: &str) -> Vec<u8> {
    archive(&[(DOCUMENT, format!("<w:document><w:body>{body}</w:body></w:document>").as_bytes())])
}

fn epub(opf: &str, page: &[u8]) -> Vec<u8> {
    archive(&[
        ("META-INF/container.xml", CONTAINER.as_bytes()),
        ("content.opf", opf.as_bytes()),
        ("page.xhtml", page),
    ])
}

const SPINE: &str = "<package><manifest><item id='a' href='page.xhtml' \
                     media-type='application/xhtml+xml'/></manifest><spine><itemref idref='a'/>\
                     </spine></package>";

/// A PDF of these objects, numbered from 1; the first is its catalogue.
fn pdf(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"%PDF-1.5\n".to_vec();
    let mut offsets = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file.extend(format!("{} 0 obj\n", number + 1).into_bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let table = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        file.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let size = objects.len() + 1;
    file.extend(
        format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n")
            .into_bytes(),
    );
    file
}

fn stream(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).expect("memory");
    let packed = packed.finish().expect("memory");
    let head = format!("<< /Length {} /Filter /FlateDecode >>\nstream\n", packed.len());
    [head.as_bytes(), &packed, b"\nendstream"].concat()
}

fn object(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Hostile files, each with words of which one is said about it; none if it may be read.
fn files() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let zeros = vec![b' '; 300 << 20];
    let whole = |name: &str| fs::read(made(name)).expect("file");
    let half = |name: &str| {
        let bytes = whole(name);
        bytes[..bytes.len() / 2].to_vec()
    };
    let catalogue = object("<< /Type /Catalog /Pages 2 0 R >>");
    let page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>";
    let damaged: &[&str] = &["damaged"];
    // A slow machine runs out of time first.
    let bomb: &[&str] = &["unpacks to more than", "of memory", "more than 10 seconds"];
    let slow: &[&str] = &["more than 10 seconds", "nested too deeply"];
    vec![
        ("bomb.docx", archive(&[(DOCUMENT, &zeros)]), bomb),
        ("bomb.epub", epub(SPINE, &zeros), bomb),
        (
            "bomb.pdf",
            pdf(&[
                catalogue.clone(),
                object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>"),
                object(page),
                stream(&[b' '; 1 << 20].repeat(1500)),
            ]),
            bomb,
        ),
        ("inner.docx", archive(&[(DOCUMENT, &archive(&[(DOCUMENT, &zeros)]))]), damaged),
        ("half.docx", half("pandoc.docx"), damaged),
        ("half.epub", half("book.epub"), damaged),
        ("empty.docx", archive(&[(DOCUMENT, b"")]), &["no text"]),
        ("open.docx", docx("<w:p><w:r><w:t>text"), damaged),
        ("entities.docx", docx(&"<w:p><w:r><w:t>&lol9;</w:t></w:r></w:p>".repeat(9)), &[]),
        ("deep.docx", docx(&("<w:tbl><w:tr><w:tc>".repeat(200_000) + "<w:p/>")), damaged),
        ("deep.html", format!("<html>{}text", "<div>".repeat(300_000)).into_bytes(), slow),
        ("unclosed.html", format!("<html>{}", "<a><b>text".repeat(20_000)).into_bytes(), &[]),
        (
            "attributes.epub",
            epub(SPINE, format!("<p {}>text</p>", " a='1'".repeat(200_000)).as_bytes()),
            &[],
        ),
        ("missing.epub", epub("<package/>", b""), damaged),
        ("lost.epub", archive(&[("META-INF/container.xml", b"<container/>")]), damaged),
        (
            "circle.pdf",
            pdf(&[catalogue.clone(), object("<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 9 >>")]),
            &[],
        ),
        (
            "pages.pdf",
            pdf(&[
                catalogue.clone(),
                object("<< /Type /Pages /Kids [3 0 R] /Count 2000000000 >>"),
                object(page),
                stream(b"BT (a) Tj ET"),
            ]),
            &[],
        ),
        (
            "nested.pdf",
            pdf(&[
                catalogue,
                object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>"),
                object(page),
                stream(&b"[".repeat(2_000_000)),
            ]),
            &[],
        ),
        ("garbage.pdf", [b"%PDF-1.7\n".to_vec(), vec![0xa5; 100_000]].concat(), damaged),
    ]
}

#[test]
fn each_is_one_error_that_names_the_file_and_nothing_else_is_lost() {
    let dir = TempDir::new().expect("dir");
    fs::write(dir.path().join("good.txt"), "The sky is blue.").expect("file");
    let files = files();
    for (name, bytes, _) in &files {
        fs::write(dir.path().join(name), bytes).expect("file");
    }
    let began = Instant::now();
    let mut command = asterism();
    command.args(["plan", "--json", "--read-seconds", "10", "-c"]).arg(dir.path());
    let (out, err) = succeed(&mut command);
    // Nothing hangs: far less than every file's time together.
    assert!(began.elapsed() < Duration::from_secs(180), "{:?}: {err}", began.elapsed());
    assert!(out.contains("good.txt"), "{out}");
    for (name, _, words) in &files {
        let about: Vec<&str> = err.lines().filter(|line| line.contains(name)).collect();
        assert!(about.len() <= 1, "{name}: {about:?}");
        let is_read = out.lines().any(|line| line.contains("\"name\"") && line.contains(name));
        assert!(about.len() == 1 || is_read, "{name} is lost: {err}");
        let said = about.concat().replace(name, "");
        let is_said = words.is_empty() || words.iter().any(|word| said.contains(word));
        assert!(is_said, "{name}, {words:?}: {err}");
    }
}

/// One file given by itself.
fn refused(dir: &TempDir, name: &str, bytes: &[u8], more: &[&str]) -> String {
    let path: PathBuf = dir.path().join(name);
    fs::write(&path, bytes).expect("file");
    let mut command = asterism();
    command.args(["ask", QUESTION, "-c"]).arg(&path).args(more);
    fail(&mut command, 1)
}

#[test]
fn time_and_kinds_that_are_not_read_are_named() {
    let dir = TempDir::new().expect("dir");
    // Formatting elements that are closed in the wrong order are opened again and again.
    let slow = format!("<html>{}", "<b><i><u><p></b></i>x".repeat(400_000));
    let said = refused(&dir, "slow.html", slow.as_bytes(), &["--read-seconds", "1"]);
    assert!(said.contains("slow.html") && said.contains("more than 1 seconds"), "{said}");
    assert!(said.contains("--read-seconds"), "{said}");
    let said = refused(&dir, "old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", &[]);
    assert!(said.contains("old.doc is a file of an old Office: save it as .docx"), "{said}");
    let said = refused(&dir, "large.txt", &vec![b'a'; 2 << 20], &["--max-file", "1"]);
    assert!(said.contains("large.txt: 2097152 bytes") && said.contains("--max-file"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
