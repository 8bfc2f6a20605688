"""Hide the sentences of facts.json in a book.

    python hide_facts.py BOOKS

BOOKS is the output of recipe/prepare_books.py with Walden among the held-out books. The script takes
the first two thirds of it, puts every fact between two sentences at the depth that facts.json asks
for, and writes three files beside itself: walden.txt, facts.json (with the offset of each fact
filled in) and questions.jsonl.

    python hide_facts.py --check

reads these three files and verifies that they agree.
"""

import argparse
import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT, FACTS, QUESTIONS = HERE / "walden.txt", HERE / "facts.json", HERE / "questions.jsonl"

FIRST_WORDS = "When I wrote the following pages"  # skips the title and the table of contents
CHARACTERS = 415_000  # about 119,000 tokens of the bundled model, which can read 131,072

SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z\"'])")


def excerpt(book: str) -> str:
    """The book from its first words to the last sentence that ends within CHARACTERS."""
    start = book.index(FIRST_WORDS)
    limited = book[start : start + CHARACTERS]
    *_, last = SENTENCE_END.finditer(limited)
    return limited[: last.start()]


def hide(text: str, facts: list[dict]) -> str:
    """Insert each fact before the sentence nearest to its depth (a percentage of the text).

    Fills in `offset`: where the fact begins in the result, in characters.
    """
    starts = [match.end() for match in SENTENCE_END.finditer(text)]
    pieces, done, length = [], 0, 0
    for fact in sorted(facts, key=lambda fact: fact["depth"]):
        wanted = fact["depth"] / 100 * len(text)
        place = min(starts, key=lambda start: abs(start - wanted))
        pieces += [text[done:place], fact["sentence"] + " "]
        length += place - done
        fact["offset"] = length
        length += len(fact["sentence"]) + 1
        done = place
    return "".join(pieces) + text[done:]


def questions(facts: list[dict]) -> str:
    """One JSON object a line."""
    rows = ({"question": fact["question"], "answer": fact["answer"]} for fact in facts)
    return "".join(json.dumps(row) + "\n" for row in rows)


def check(text: str, facts: list[dict], lines: str) -> None:
    """Raise if the files disagree, or if a fact is said elsewhere in the book too."""
    text.encode("ascii")
    for fact in facts:
        sentence, offset = fact["sentence"], fact["offset"]
        assert text[offset : offset + len(sentence)] == sentence, f"not at {offset}: {sentence}"
        assert text.count(fact["answer"]) == 1, f"not unique: {fact['answer']}"
        assert abs(100 * offset / len(text) - fact["depth"]) < 0.5, f"wrong depth: {sentence}"
    assert lines == questions(facts), "questions.jsonl does not match facts.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("books", nargs="?", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    facts = json.loads(FACTS.read_text())
    if args.books:
        book = json.loads(args.books.read_text())["held_out"]["walden"]
        TEXT.write_text(hide(excerpt(book), facts) + "\n")
        FACTS.write_text(json.dumps(facts, indent=2) + "\n")
        QUESTIONS.write_text(questions(facts))
    elif not args.check:
        parser.error("give books.json, or --check")
    check(TEXT.read_text(), facts, QUESTIONS.read_text())
    print(f"{len(facts)} facts in {len(TEXT.read_text()):,} characters: all in place")


if __name__ == "__main__":
    main()
