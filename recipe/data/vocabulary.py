"""Random names and values that the tasks hide, and the word lists that they come from."""

import json
import string
import uuid
import zlib
from pathlib import Path
from random import Random

_LISTS = json.loads((Path(__file__).resolve().parent.parent / "words.json").read_text())


def is_held_out(word: str) -> bool:
    """A fifth of all words, by hash, is never trained on; benchmarks draw them."""
    return zlib.crc32(word.encode()) % 5 == 0


def _training(kind: str) -> list[str]:
    return [word for word in _LISTS[kind] if not is_held_out(word)]


def held_out_words(kind: str) -> list[str]:
    """The words of a list (`adjs`, `nouns`, `verbs`) that training never draws."""
    return [word for word in _LISTS[kind] if is_held_out(word)]


ADJECTIVES, NOUNS, VERBS = _training("adjs"), _training("nouns"), _training("verbs")
WORDS = sorted({*ADJECTIVES, *NOUNS, *VERBS})

PEOPLE = ["Mary", "John", "Daniel", "Sandra", "Emily", "Fred", "Bill", "Jeff", "Julie", "Anna"]

# RULER's filler text
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


def word_pair(rng: Random) -> str:
    """Such as `brave-otter`."""
    return rng.choice(ADJECTIVES) + "-" + rng.choice(NOUNS)


def number(rng: Random) -> str:
    """Seven digits."""
    return str(rng.randint(10**6, 10**7 - 1))


def uuid4(rng: Random) -> str:
    """A version-4 UUID in lower case."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def letters(rng: Random, alphabet: str, count: int) -> str:
    """A made-up word, such as a variable's name."""
    return "".join(rng.choices(alphabet, k=count))


def variable(rng: Random) -> str:
    """Five capital letters."""
    return letters(rng, string.ascii_uppercase, 5)


def coded_word(rng: Random) -> str:
    """Six small letters."""
    return letters(rng, string.ascii_lowercase, 6)
