"""Texts and files, as people name them, as pairs of a name and a text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

Texts = Union[str, "os.PathLike[str]", Mapping[str, str], Sequence["str | os.PathLike[str]"]]

class UnreadableFile(ValueError):
    """A file that is not text in UTF-8."""


def read(texts: Texts) -> list[tuple[str, str]]:
    """Names and texts of `texts`: a text; a path, or a string that names a file or a folder;
    several of them in a list; or texts by name in a dict.

    A string without any white space can only be a path, and must exist. A folder gives its files in
    the order of their paths, but for hidden ones.
    """
    if isinstance(texts, Mapping):
        return [(str(name), str(text)) for name, text in texts.items()]
    if isinstance(texts, (str, os.PathLike)):
        return _one(texts, "text")
    all_of_them: list[tuple[str, str]] = []
    for number, one in enumerate(texts, 1):
        if not isinstance(one, (str, os.PathLike)):
            raise TypeError(f"expected texts or paths, and number {number} is {type(one).__name__}")
        all_of_them += _one(one, f"text {number}")
    return all_of_them


def _one(given: str | os.PathLike[str], name: str) -> list[tuple[str, str]]:
    path = _path(given)
    if path is None:
        return [(name, str(given))]
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part[0] == "." for part in file.relative_to(path).parts)
        )
        if not files:
            raise FileNotFoundError(f"{path}: the folder holds no files")
        return [(str(file), _text(file)) for file in files]
    return [(str(path), _text(path))]


def _path(given: str | os.PathLike[str]) -> Path | None:
    """What `given` names, `None` if it is a text."""
    if not isinstance(given, str):
        return Path(given)
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


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        if b"\0" in content:
            raise ValueError("it holds zero bytes")
        return content.decode("utf-8-sig")
    except ValueError as error:
        raise UnreadableFile(
            f"{path}: no text in UTF-8 ({error}): convert it to text before it is encoded"
        ) from error
