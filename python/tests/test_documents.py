"""What counts as a text, what as a file, and what is read of files."""

import signal
import threading
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from asterism import Document, Engine, errors
from asterism.documents import Documents, DocumentWarning, read

# Files that other programs made.
FILES = Path(__file__).parents[2] / "crates/asterism-documents/tests/files"


def texts(documents):
    return [(document.name, document.text) for document in documents]


def test_texts_files_folders_and_dicts(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbffirst")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_bytes(b"\0")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt").write_text("third")
    names = [str(tmp_path / name) for name in ("a.md", "b.txt", "sub/c.txt")]
    assert texts(read("a text of words")) == [("text", "a text of words")]
    for text in ("a long text " * 300, "~nobody is here", "with a \0 in it", "two\nlines", ""):
        assert texts(read(text)) == [("text", text)]
    for path in (tmp_path / "b.txt", str(tmp_path / "b.txt")):
        assert texts(read(path)) == [(names[1], "second")]
    folder = read(tmp_path)
    in_it = [(name, f"==> {name} <==\n{text}") for name, text in zip(names, ["first", "second", "third"])]
    assert texts(folder) == in_it
    assert texts(read(folder)) == in_it
    mixed = read(["one text", tmp_path / "a.md", Document("x", "mine"), tmp_path / "sub"])
    assert texts(mixed) == [("text 1", "one text"), (names[0], "first"), ("x", "mine"), in_it[2]]
    assert texts(read({"x": "word"})) == [("x", "word")]
    assert isinstance(folder, Documents)
    assert folder.skipped == [(str(tmp_path / ".git") + "/", "hidden")]


def test_what_of_a_folder_is_read_is_chosen(tmp_path):
    for name, text in [("a.txt", "a"), ("b.c", "b"), ("c.log", "c"), (".gitignore", "*.log\n")]:
        (tmp_path / name).write_text(text)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "d.pdf").write_bytes(b"%PDF-1.7 and no more")

    def names(**choice):
        return [Path(document.name).name for document in read(tmp_path, **choice)]

    with pytest.warns(DocumentWarning) as told:
        assert names() == ["a.txt", "b.c"]
    assert sorted(str(one.message).split("/")[-1].split(" ")[0] for one in told) == ["d.pdf", "empty.txt:"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(include=["*.c"]) == ["b.c"]
        assert names(exclude=["*.c", "*.pdf", "empty.txt"]) == ["a.txt"]
        skipped = dict(read(tmp_path, include=["*.c"]).skipped)
    assert skipped[str(tmp_path / "c.log")] == "named by a .gitignore"
    assert str(tmp_path / "a.txt") in skipped
    with pytest.raises(TypeError, match=r"include='\*.c'"):
        read(tmp_path, include="*.c")


def test_documents_of_every_kind_say_where_their_parts_are():
    for file, kind, place in [
        ("tex.pdf", "pdf", "page"),
        ("book.epub", "epub", "chapter"),
        ("pandoc.docx", "docx", '"'),
        ("page.html", "html", '"'),
    ]:
        (document,) = read(FILES / file)
        assert (document.kind, document.name) == (kind, str(FILES / file))
        assert len(document) == len(document.text) > 100
        end = len(document.text) - 10
        assert place in document.cite(end - 50, end), document.cite(end - 50, end)
    with pytest.raises(ValueError, match="no part of"):
        document.cite(5, 10**9)


def test_encodings_are_guessed_said_and_given(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("déjà vu à l'été".encode("latin-1"))
    with pytest.warns(DocumentWarning, match="latin.txt: read as windows-1252, a guess"):
        (document,) = read(latin)
    assert (document.text, document.encoding) == ("déjà vu à l'été", "windows-1252")
    (document,) = read(latin, encoding="latin-1")
    assert document.notes == []
    with pytest.raises(errors.FileEncoding, match="latin.txt"):
        read(latin, encoding="utf-8")
    with pytest.raises(ValueError, match="klingon"):
        read(latin, encoding="klingon")


def test_files_that_are_missing_or_no_text_are_refused_by_name(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.5")
    (tmp_path / "b.pdf").write_bytes(b"no pdf")
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    (tmp_path / "a.rtf").write_bytes(b"{\\rtf1}")
    (tmp_path / "long.txt").write_bytes(b"x" * (1 << 20) + b"x")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("[Content_Types].xml", "")
        bomb.writestr("word/document.xml", b" " * (300 << 20))
    for name, error in [
        ("a.pdf", errors.FileDamaged),
        ("b.pdf", errors.FileUnsupported),
        ("a.bin", errors.FileBinary),
        ("a.rtf", errors.FileUnsupported),
        ("long.txt", errors.FileTooLarge),
        ("bomb.docx", errors.FileUnpacksToTooMuch),
    ]:
        with pytest.raises(error, match=name) as raised:
            read(tmp_path / name, max_file=1)
        assert isinstance(raised.value, (errors.UnreadableFile, ValueError))
    with pytest.raises(errors.FileWithoutText, match="scanned.pdf"):
        read(FILES / "scanned.pdf")
    for missing in ("paper.pdf", tmp_path / "no", str(tmp_path / "no.txt"), tmp_path / "empty"):
        with pytest.raises(FileNotFoundError):
            read(missing)
    with pytest.raises(TypeError, match="number 2"):
        read(["a text", 3])


def test_reading_is_interrupted(tmp_path):
    for number in range(400):
        (tmp_path / f"{number}.html").write_text("<p>text</p>")
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path)
    assert time.monotonic() - began < 3


def test_sources_name_pages_lines_and_chapters(tmp_path):
    engine = Engine(threads=2)
    lines = "".join(f"The grass is green in field {number}.\n" for number in range(150))
    at = lines.index("The grass is green in field 90.")
    (tmp_path / "notes.txt").write_text(
        lines[:at] + "The access code for the Lisbon vault is 48213.\n" + lines[at:]
    )
    book = engine.encode([tmp_path / "notes.txt", FILES / "tex.pdf"], method="dense")
    answer = book.ask("What is the access code for the Lisbon vault?", sources=True)
    assert "48213" in str(answer)
    source = answer.sources[0]
    assert source.document == str(tmp_path / "notes.txt")
    name, _, line = source.place.rpartition(":")
    first, _, last = line.partition("-")
    assert name == source.document and int(first) <= 91 <= int(last or first), source.place

    book.save(tmp_path / "saved")
    again = engine.load(tmp_path / "saved").ask("What is the access code for the Lisbon vault?")
    assert again.sources[0].place == source.place
    assert any("tex.pdf, page" in other.place for other in again.sources)
    tokens = engine.encode(engine.tokenize("word " * 200), method="dense")
    assert tokens.ask(engine.tokenize("word"), max_tokens=1).sources[0].place is None
