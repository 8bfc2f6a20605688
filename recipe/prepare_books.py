"""Turn a folder of plain-text books into books.json, which the other scripts read.

    python prepare_books.py FOLDER --held-out walden

Every .txt file is one book. Project Gutenberg's header and licence are cut off, typographic
characters become ASCII, and all whitespace becomes single spaces. Books named with --held-out
are never trained on; evaluate.py uses them.
"""

import argparse
import json
import re
import unicodedata
from pathlib import Path

START = re.compile(r"\*\*\* ?START OF TH(E|IS) PROJECT GUTENBERG EBOOK.*?\*\*\*", re.DOTALL | re.IGNORECASE)
END = re.compile(r"(\*\*\* ?)?END OF (THE|THIS) PROJECT GUTENBERG EBOOK", re.IGNORECASE)
TYPOGRAPHY = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--"}
)


def without_licence(text: str) -> str:
    """What lies between Project Gutenberg's start and end marks; all of it if there are none."""
    start = START.search(text)
    if start:
        text = text[start.end() :]
    end = END.search(text)
    return text[: end.start()] if end else text


def to_ascii(text: str) -> str:
    """Plain quotes and dashes, letters without accents; anything else beyond ASCII is dropped."""
    decomposed = unicodedata.normalize("NFKD", text.translate(TYPOGRAPHY))
    return decomposed.encode("ascii", "ignore").decode("ascii")


def prepare(text: str) -> str:
    """One line of ASCII text."""
    return " ".join(to_ascii(without_licence(text)).split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", nargs="*", default=["walden"], help="file names without .txt")
    parser.add_argument("--out", type=Path, default=Path("books.json"))
    args = parser.parse_args()

    books: dict[str, dict[str, str]] = {"train": {}, "held_out": {}}
    for path in sorted(args.folder.glob("*.txt")):
        part = "held_out" if path.stem in args.held_out else "train"
        books[part][path.stem] = prepare(path.read_text(encoding="utf-8"))
        print(f"{part:9} {path.stem}: {len(books[part][path.stem]):,} characters")
    for part, found in books.items():
        if not found:
            parser.error(f"no {part} books in {args.folder}")
    args.out.write_text(json.dumps(books))


if __name__ == "__main__":
    main()
