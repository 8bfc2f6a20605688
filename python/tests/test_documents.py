"""What counts as a text, and what as a file."""

import pytest
from asterism.documents import UnreadableFile, read


def test_texts_files_folders_and_dicts(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbffirst")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_bytes(b"\0")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt").write_text("third")
    names = [str(tmp_path / name) for name in ("a.md", "b.txt", "sub/c.txt")]
    assert read("a text of words") == [("text", "a text of words")]
    for text in ("a long text " * 300, "~nobody is here", "with a \0 in it", "two\nlines", ""):
        assert read(text) == [("text", text)]
    assert read(tmp_path / "b.txt") == read(str(tmp_path / "b.txt")) == [(names[1], "second")]
    assert read(tmp_path) == list(zip(names, ["first", "second", "third"]))
    mixed = read(["one text", tmp_path / "a.md"])
    assert mixed == [("text 1", "one text"), (names[0], "first")]
    assert read({"x": "word"}) == [("x", "word")]


def test_files_that_are_missing_or_no_text_are_refused(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF\0")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    for name in ("a.pdf", "latin.txt"):
        with pytest.raises(UnreadableFile, match=name):
            read(tmp_path / name)
    for missing in ("paper.pdf", tmp_path / "no", str(tmp_path / "no.txt"), tmp_path / "empty"):
        with pytest.raises(FileNotFoundError):
            read(missing)
    with pytest.raises(TypeError, match="number 2"):
        read(["a text", 3])
