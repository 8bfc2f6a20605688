"""RULER's tasks with the very prompts of `asterism eval ruler --variant star-paper`.

Slips of the reference included: they are what a model is asked. check_prompts.py compares these
samples with the program's, token by token.
"""

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from data.conversation import BASE, CHAT, Conversation, Frame, Segment
from data.niah import RETRIEVAL, Shape, needle_sample
from data.prose import Prose
from data.variable_tracking import CONTEXT as VT_CONTEXT
from data.variable_tracking import PREFIX as VT_PREFIX
from data.variable_tracking import QUESTION as VT_QUESTION
from data.vocabulary import ADJECTIVES, NOISE, NOUNS, WORDS, coded_word, letters, uuid4
from data.words import (
    COMMON,
    COMMON_CONTEXT,
    COMMON_PREFIX,
    COMMON_QUESTION,
    DOTS,
    FREQUENT_CONTEXT,
    FREQUENT_PREFIX,
    FREQUENT_QUESTION,
    numbered,
)

CHAT_SHARE = 0.8

CHARS_PER_TOKEN = 1.85  # what common_words is given for a token
CHAIN = 5  # variables of a chain
EXAMPLE_LINES = 10  # of noise, in the worked example of vt
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LINE_CHARS = len(NOISE) + 2

NEEDLE_CHARS = 150  # of the text asked for, for each key of multikey_2
QUESTION_CHARS = 180  # of a text of needles take as many tokens as a question and its answer
MOST_QUESTIONS = 40  # of alike_keys
LONG = 3400  # tokens from which cwe repeats its words more often; samples of 4,096 have as many
ZETA_2 = 1.6449340668482264  # the sum of all k^-2
FREQUENT_WEIGHT = 2.0  # three words only, and hard ones
WORD_CHARS = 5.3  # of a coded word and its space; half of them are dots


def draw_frame(rng: Random) -> Frame:
    return CHAT if rng.random() < CHAT_SHARE else BASE


def retrieval(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """One of the eight tasks `niah_*`, then up to eight further questions about the same text."""
    shape = RETRIEVAL[rng.choice(list(RETRIEVAL))]
    return needle_sample(rng, _text_chars(n_chars, shape), prose, shape, draw_frame(rng))


def _text_chars(n_chars: int, shape: Shape) -> int:
    """`Task.chars_per_token` is that of book text; keys and values take more tokens."""
    share = {"essay": 1.0, "repeat": 1.05, "needle": 0.72 if shape.key_kind == "words" else 0.5}
    return int(n_chars * share[shape.haystack])


def alike_keys(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """multikey_2 or 3 with many questions, and mostly with keys that are alike.

    What makes these tasks hard in long texts is how many keys come close to the one asked for.
    Keys of few parts do the same to short texts.
    """
    words = rng.random() < 0.5
    shape = RETRIEVAL["multikey_2" if words else "multikey_3"]
    new_key = None
    if rng.random() < 0.6:
        new_key = few_words(rng, n_chars) if words else near_uuids(rng)
    further = min(MOST_QUESTIONS, n_chars // 1500)
    text_chars = _text_chars(n_chars, shape) - further * QUESTION_CHARS
    return needle_sample(rng, text_chars, prose, shape, draw_frame(rng), new_key, further)


def few_words(rng: Random, n_chars: int) -> Callable[[Random], str]:
    """Pairs of as few words as give some four times the keys of a text."""
    count = 4 + math.isqrt(4 * n_chars // NEEDLE_CHARS)
    adjectives, nouns = rng.sample(ADJECTIVES, count), rng.sample(NOUNS, count)
    return lambda rng: rng.choice(adjectives) + "-" + rng.choice(nouns)


def near_uuids(rng: Random) -> Callable[[Random], str]:
    """UUIDs that share some of their five parts with others."""
    known = [uuid4(rng).split("-") for _ in range(rng.choice([4, 16, 64]))]
    change = rng.randint(1, 4)

    def draw(rng: Random) -> str:
        parts, fresh = list(rng.choice(known)), uuid4(rng).split("-")
        # The second and the fourth part are too short to tell many keys apart.
        for place in {rng.choice([0, 4]), *rng.sample(range(5), change)}:
            parts[place] = fresh[place]
        return "-".join(parts)

    return draw


class Chain(NamedTuple):
    """Variables of which the first has a value, each other one that of its predecessor."""

    names: list[str]
    value: str

    @staticmethod
    def draw(rng: Random, letters_each: int) -> "Chain":
        names: list[str] = []
        while len(names) < CHAIN:
            name = letters(rng, CAPITALS, letters_each)
            if name not in names:
                names.append(name)
        return Chain(names, str(rng.randrange(10_000, 99_999)))

    def hidden_in(self, rng: Random, lines: int) -> str:
        """The statements between lines of noise."""
        statements = [f"VAR {self.names[0]} = {self.value}"]
        statements += [f"VAR {b} = VAR {a} " for a, b in zip(self.names, self.names[1:], strict=False)]
        text = [NOISE + "\n"] * lines
        places = sorted(rng.sample(range(lines), CHAIN))
        for place, statement in zip(reversed(places), reversed(statements), strict=True):
            text.insert(place, statement)
        return " ".join(text).replace(". \n", ".\n")


def variable_tracking(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """`vt`: a worked example with names of three letters, then a chain with names of five."""
    frame = draw_frame(rng)
    example = _chain_example(rng, frame)
    chain = Chain.draw(rng, 5)
    lines = max(CHAIN + 1, (n_chars - len(example)) // LINE_CHARS)
    conversation = Conversation(rng, frame)
    conversation.context(f" {example}\n\n" + VT_CONTEXT.format(text=chain.hidden_in(rng, lines)))
    prefix = VT_PREFIX.format(count=CHAIN, value=chain.value)
    # With a space before the first name, as in the example: the tokens are then those of the text.
    conversation.ask(VT_QUESTION.format(value=chain.value), prefix, " " + " ".join(chain.names))
    return conversation.segments


def _chain_example(rng: Random, frame: Frame) -> str:
    chain = Chain.draw(rng, 3)
    context = VT_CONTEXT.format(text=chain.hidden_in(rng, EXAMPLE_LINES))
    question = VT_QUESTION.format(value=chain.value)
    if frame.tail:
        # The reference loses line breaks around the text, and the last word with the chat's tail.
        context = context.replace(".\n\n", ". ", 1).removesuffix("\n") + " "
        question = question.rsplit(" ", 1)[0]
    prefix = VT_PREFIX.format(count=CHAIN, value=chain.value)
    return f"{context}{question}{prefix} {' '.join(chain.names)}\n\n"


def common_words(rng: Random, n_chars: int, prose: Prose, sparse: bool = False) -> list[Segment]:
    """`cwe`: a worked example, which is a second chat in the first, then the list asked about.

    If `sparse`, common words are as rare among the others as they are in lists that are four times longer.
    """
    tokens = n_chars / CHARS_PER_TOKEN
    long = tokens > LONG
    frame = draw_frame(rng)
    example, example_answer = _word_list(rng, *((40, 10, 3) if long else (20, 3, 1)))
    often, seldom = (30, 3) if long else (6, 1)
    if sparse and long:
        often, seldom = rng.choice([(8, 1), (10, 1), (14, 2)])
    entries = _entries(tokens - (1430 if long else 420)) - COMMON * often
    kinds = COMMON + max(10, int(entries / seldom))
    text, answer = _word_list(rng, min(kinds, len(WORDS)), often, seldom)

    opening = COMMON_CONTEXT.format(text=example) + COMMON_QUESTION + frame.tail + COMMON_PREFIX
    conversation = Conversation(rng, frame)
    conversation.context(
        f"{opening}{numbered(example_answer)}\n{frame.head}{COMMON_CONTEXT.format(text=text)}"
    )
    conversation.ask(COMMON_QUESTION, COMMON_PREFIX, numbered(answer))
    return conversation.segments


def _entries(tokens: float) -> float:
    """How many numbered words fill `tokens` tokens: each takes some 4.6, and one for each digit."""
    entries = 100.0
    for _ in range(8):
        entries = max(60.0, tokens / (4.58 + math.log10(entries)))
    return entries


def _word_list(rng: Random, kinds: int, often: int, seldom: int) -> tuple[str, list[str]]:
    """A numbered list, and its common words in the order in which they first appear."""
    words = rng.sample(WORDS, kinds)
    entries = words[:COMMON] * often + words[COMMON:] * seldom
    rng.shuffle(entries)
    return numbered(entries), sorted(words[:COMMON], key=entries.index)


def frequent_words(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """`fwe`: coded words whose counts fall with the square of their rank. Asked are ranks two to four."""
    total = max(150, int(n_chars / WORD_CHARS))
    words = [DOTS, *(coded_word(rng) for _ in range(max(3, int(total**0.5))))]
    text: list[str] = []
    for rank, word in enumerate(words, start=1):
        text += [word] * int(total * rank**-2.0 / ZETA_2)
    rng.shuffle(text)
    conversation = Conversation(rng, draw_frame(rng))
    conversation.context(FREQUENT_CONTEXT.format(text=" ".join(text)))
    answer = Segment(" " + " ".join(words[1:4]), FREQUENT_WEIGHT)
    conversation.ask(FREQUENT_QUESTION, FREQUENT_PREFIX, answer)
    return conversation.segments
