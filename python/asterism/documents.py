"""Texts and files, as people name them, as documents.

`read` gives what `Engine.encode` makes of its argument, with a choice of files and encodings:

    documents = read("thesis/", include=["*.tex", "*.pdf"], encoding="latin-1")
    documents.skipped                           # what else the folder has, and why it is not read
    context = engine.encode(documents)
"""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Union

from ._asterism import Document, read_files

Text = Union[str, "os.PathLike[str]", Document]
Texts = Union[Text, Mapping[str, str], Sequence[Text]]

# Reasons to leave out a file that nobody needs to hear of.
_QUIET = {"hidden", "ignored", "excluded", "not_included", "twice"}


class DocumentWarning(UserWarning):
    """Something about a document that was read, or why one was not: a guess, a page without text."""


class Documents(list[Document]):
    """Documents in their order."""

    skipped: list[tuple[str, str]]
    """Files of folders that were not read, and why."""


def read(
    texts: Texts,
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    encoding: str | None = None,
    max_file: int = 64,
    seconds: int = 60,
) -> Documents:
    """The documents of `texts`: a text; a path, or a string that names a file or a folder; several of
    them in a list; texts by name in a dict; documents that were read before.

    A string without any white space can only be a path, and must exist. Files are text in any encoding,
    HTML, EPUB, DOCX or PDF. A folder gives its files in the order of their names, but for hidden ones and
    those that a `.gitignore` names; `include` and `exclude` are patterns like those of a `.gitignore`.
    The encoding of text is guessed where it is not UTF-8, unless `encoding` names it. A file may have
    `max_file` MiB, and take `seconds` to be read if it is no text: that is done by a process of its own.

    What there is to know about a document, and which files of a folder could not be read, are
    `DocumentWarning`s.
    """
    names = _named(texts)
    paths = [name for name in names if isinstance(name, Path)]
    files: dict[int, list[Document]] = {number: [] for number in range(len(paths))}
    documents = Documents()
    documents.skipped = []
    if paths:
        patterns = [_patterns(one, name) for one, name in ((include, "include"), (exclude, "exclude"))]
        read, skipped = read_files(paths, *patterns, _names_of(encoding), max_file, seconds)
        for number, document in read:
            files[number].append(document)
            for note in document.notes:
                warnings.warn(f"{document.name}: {note}", DocumentWarning, stacklevel=2)
        for name, reason, code in skipped:
            documents.skipped.append((name, reason))
            if code not in _QUIET:
                warnings.warn(f"skipped: {_why(name, reason)}", DocumentWarning, stacklevel=2)
    number = 0
    for name in names:
        if isinstance(name, Document):
            documents.append(name)
            continue
        documents += files[number]
        number += 1
    if not documents and paths:
        folders = ", ".join(str(path) for path in paths)
        raise FileNotFoundError(f"{folders}: there is nothing to read" + _first(documents.skipped))
    return documents


def _first(skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return ""
    more = len(skipped) - 1
    return f" ({_why(*skipped[0])}" + (f"; {more} more)" if more else ")")


def _why(name: str, reason: str) -> str:
    """A reason that names its file; those of files that could not be read do already."""
    return reason if name in reason else f"{name}: {reason}"


def _names_of(encoding: str | None) -> list[str]:
    """Names of an encoding: as it was given, and as Python calls it, who knows more of them."""
    if encoding is None:
        return []
    try:
        return [encoding, codecs.lookup(encoding).name.replace("_", "-")]
    except LookupError:
        return [encoding]


def _patterns(patterns: Iterable[str], name: str) -> list[str]:
    if isinstance(patterns, str):
        raise TypeError(f"{name}={patterns!r}: expected a list of patterns, such as [{patterns!r}]")
    return list(patterns)


def _named(texts: Texts) -> list[Document | Path]:
    """Texts as documents, names of files as paths."""
    if isinstance(texts, Mapping):
        return [Document(str(name), str(text)) for name, text in texts.items()]
    if isinstance(texts, (str, os.PathLike, Document)):
        return [_one(texts, "text")]
    for number, one in enumerate(texts, 1):
        if not isinstance(one, (str, os.PathLike, Document)):
            raise TypeError(f"expected texts or paths, and number {number} is {type(one).__name__}")
    return [_one(one, f"text {number}") for number, one in enumerate(texts, 1)]


def _one(given: Text, name: str) -> Document | Path:
    if isinstance(given, Document):
        return given
    path = _path(given)
    return Document(name, str(given)) if path is None else path


def _path(given: str | os.PathLike[str]) -> Path | None:
    """What `given` names, `None` if it is a text."""
    if not isinstance(given, str):
        path = Path(given)
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        return path
    if not given or "\n" in given:
        return None
    path = os.path.expanduser(given)
    # A text may be too long for a path, or hold characters that none has: then this is false.
    if os.path.exists(path):
        return Path(path)
    if any(character.isspace() for character in given):
        return None
    raise FileNotFoundError(
        f"{given!r} names no file: give a text of one word as {{'name': {given!r}}}"
    )
