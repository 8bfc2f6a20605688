"""Book text: the haystack that facts are hidden in, and a task of its own."""

import json
import re
from functools import cached_property
from pathlib import Path
from random import Random

from data.conversation import BEGIN, Segment
from data.vocabulary import is_held_out

SENTENCE_BREAK = re.compile(r"(?<=[.!?]) (?=[A-Z\"'])")
WORD = re.compile(r"\b[a-z]{3,12}\b")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,11}\b")


class Prose:
    """Books, split into sentences. Longer books are drawn more often."""

    def __init__(self, books: dict[str, str]) -> None:
        if not books:
            raise ValueError("no books: give prepare_books.py a folder with at least one .txt file")
        self.books = [SENTENCE_BREAK.split(text) for text in books.values()]
        self._texts = list(books.values())

    @cached_property
    def words(self) -> list[str]:
        """The words of the books, in small letters."""
        return self._distinct(WORD)

    @cached_property
    def names(self) -> list[str]:
        """Words of the books that are large within a sentence: names, mostly."""
        return self._distinct(NAME)

    def _distinct(self, kind: re.Pattern) -> list[str]:
        """Without those that only benchmarks draw."""
        found = {word for text in self._texts for word in kind.findall(text)}
        words = sorted(word for word in found if not is_held_out(word))
        if not words:
            raise ValueError(f"nothing in the books matches {kind.pattern}: they are too short")
        return words

    def sentences(self, rng: Random, n_chars: int) -> list[str]:
        """Consecutive sentences from a random place, at least `n_chars` long together."""
        book = self._draw_book(rng)
        place = rng.randrange(len(book))
        taken: list[str] = []
        length = 0
        while length < n_chars:
            taken.append(book[place])
            length += len(book[place]) + 1
            place = (place + 1) % len(book)
        return taken

    def _draw_book(self, rng: Random) -> list[str]:
        if len(self.books) == 1:
            return self.books[0]
        return rng.choices(self.books, [len(book) for book in self.books])[0]


def load_books(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The output of prepare_books.py: books to train on, and held-out books to evaluate on."""
    books = json.loads(path.read_text())
    return books["train"], books["held_out"]


def scatter(rng: Random, sentences: list[str], inserts: list[str]) -> None:
    """Put `inserts`, in order, between sentences at random places."""
    places = sorted(rng.choices(range(len(sentences) + 1), k=len(inserts)), reverse=True)
    for place, insert in zip(places, reversed(inserts), strict=True):
        sentences.insert(place, insert)


def passage_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """The `text` task: plain language modelling."""
    return [Segment(BEGIN + " ".join(prose.sentences(rng, n_chars + 200)), 0)]
