"""Needle in a haystack: RULER's retrieval tasks, with RULER's wording."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from data.conversation import Conversation, Frame, Segment
from data.prose import Prose, scatter
from data.vocabulary import NOISE, number, uuid4, word_pair

KINDS = {"words": word_pair, "numbers": number, "uuids": uuid4}

CONTEXT = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it."
    " I will quiz you about the {kind} afterwards.\n{text}\n"
)
QUESTION = "What are all the special magic {kind} for {keys} mentioned in the provided text?"
PREFIX = " The special magic {kind} for {keys} mentioned in the provided text are"

# The same for a question with one answer. `kind` is then in the singular.
CONTEXT_ONE = CONTEXT.replace("Some", "A").replace("are hidden", "is hidden")
QUESTION_ONE = QUESTION.replace("are all", "is")
PREFIX_ONE = PREFIX.replace("text are", "text is")


@dataclass(frozen=True)
class Shape:
    """One variant of the task."""

    haystack: str  # "essay" (book text), "repeat" (the noise line) or "needle" (other needles)
    key_kind: str
    value_kind: str
    keys: int
    values: int  # per key
    queries: int  # keys that the first question asks for

    @staticmethod
    def draw(rng: Random) -> "Shape":
        haystack = rng.choices(["essay", "repeat", "needle"], [5, 2, 3])[0]
        key_kind = rng.choices(["words", "uuids", "numbers"], [8, 1.5, 0.5])[0]
        value_kind = rng.choices(["numbers", "uuids", "words"], [6, 2.5, 1.5])[0]
        keys = rng.choice([1, 1, 2, 4, 4, 6, 8])
        values = rng.choice([1, 1, 1, 2, 4])
        queries = rng.choice([1, 1, 1, 2, 4])
        return Shape(haystack, key_kind, value_kind, max(keys, queries), values, queries)


# RULER's eight
RETRIEVAL = {
    "single_1": Shape("repeat", "words", "numbers", keys=1, values=1, queries=1),
    "single_2": Shape("essay", "words", "numbers", keys=1, values=1, queries=1),
    "single_3": Shape("essay", "words", "uuids", keys=1, values=1, queries=1),
    "multikey_1": Shape("essay", "words", "numbers", keys=4, values=1, queries=1),
    "multikey_2": Shape("needle", "words", "numbers", keys=1, values=1, queries=1),
    "multikey_3": Shape("needle", "uuids", "uuids", keys=1, values=1, queries=1),
    "multivalue": Shape("essay", "words", "numbers", keys=1, values=4, queries=1),
    "multiquery": Shape("essay", "words", "numbers", keys=4, values=1, queries=4),
}
# Where RULER puts needles into an essay, in percent of its sentences
DEPTHS = [round(100 * i / 39) for i in range(40)]


def needle_sample(
    rng: Random,
    n_chars: int,
    prose: Prose,
    shape: Shape | None = None,
    frame: Frame | None = None,
    new_key: Callable[[Random], str] | None = None,
    further: int | None = None,
) -> list[Segment]:
    """Needles in a haystack, a question as in RULER, then `further` ones, by default up to eight."""
    shape = shape or Shape.draw(rng)
    new_key, new_value = new_key or KINDS[shape.key_kind], KINDS[shape.value_kind]
    hidden: list[tuple[str, list[str]]] = []  # key, its values
    for _ in range(shape.keys):
        key = new_key(rng)
        hidden.append((key, [new_value(rng) for _ in range(shape.values)]))
    needles = [_needle(shape, key, value) for key, values in hidden for value in values]
    rng.shuffle(needles)

    distractors: list[tuple[str, str]] = []
    if shape.haystack == "essay":
        text = (_at_depths if frame else _in_prose)(rng, n_chars, prose, needles)
    elif shape.haystack == "repeat":
        lines = [NOISE] * max(len(needles) + 1, n_chars // (len(NOISE) + 1))
        text = _in_lines(rng, lines, needles)
    else:
        taken = {key for key, _ in hidden}
        lines, distractors = _needle_lines(rng, n_chars, shape, new_key, taken, len(needles) + 1)
        text = _in_lines(rng, lines, needles)
    for _, values in hidden:
        values.sort(key=text.index)  # answers are given in the order of the text

    single = shape.queries * shape.values == 1
    if frame and single:  # RULER puts its whole prompt into the singular: "You is a helpful assistant."
        frame = replace(frame, head=frame.head.replace("are", "is"))
    conversation = Conversation(rng, frame)
    kind = shape.value_kind[:-1] if single else shape.value_kind
    conversation.context((CONTEXT_ONE if single else CONTEXT).format(kind=kind, text=text))
    _ask(conversation, shape, [hidden[i] for i in rng.sample(range(shape.keys), shape.queries)])
    further = rng.randint(0, 8) if further is None else further
    more = hidden + [(key, [value]) for key, value in rng.sample(distractors, min(further, len(distractors)))]
    rng.shuffle(more)
    for pair in more[:further]:
        _ask(conversation, shape, [pair])
    return conversation.segments


def _needle(shape: Shape, key: str, value: str) -> str:
    return f"One of the special magic {shape.value_kind} for {key} is: {value}."


def _in_prose(rng: Random, n_chars: int, prose: Prose, needles: list[str]) -> str:
    sentences = prose.sentences(rng, max(200, n_chars - 60 * len(needles)))
    scatter(rng, sentences, needles)
    return " ".join(sentences)


def _at_depths(rng: Random, n_chars: int, prose: Prose, needles: list[str]) -> str:
    """Text and needles in turn, all joined by spaces, even where there is no text in between."""
    sentences = prose.sentences(rng, max(200, n_chars - 60 * len(needles)))
    parts: list[str] = []
    start = 0
    for depth, needle in zip(sorted(rng.sample(DEPTHS, len(needles))), needles, strict=True):
        end = int(len(sentences) * (depth / 100))
        parts += [" ".join(sentences[start:end]), needle]
        start = end
    return " ".join([*parts, " ".join(sentences[start:])])


def _in_lines(rng: Random, lines: list[str], needles: list[str]) -> str:
    """At most one needle before each line."""
    places = sorted(rng.sample(range(len(lines)), len(needles)), reverse=True)
    for place, needle in zip(places, reversed(needles), strict=True):
        lines.insert(place, needle)
    return "\n".join(lines)


def _needle_lines(
    rng: Random,
    n_chars: int,
    shape: Shape,
    new_key: Callable[[Random], str],
    taken: set[str],
    at_least: int,
) -> tuple[list[str], list[tuple[str, str]]]:
    """A haystack made of needles that look like the real ones, and their keys and values.

    No key is one of those `taken`, which grow by the new ones.
    """
    lines: list[str] = []
    pairs: list[tuple[str, str]] = []
    length = 0
    while length < n_chars or len(lines) < at_least:
        key, value = new_key(rng), KINDS[shape.value_kind](rng)
        if key in taken:
            continue
        taken.add(key)
        pairs.append((key, value))
        lines.append(_needle(shape, key, value))
        length += len(lines[-1]) + 1
    return lines, pairs


def _ask(conversation: Conversation, shape: Shape, wanted: list[tuple[str, list[str]]]) -> None:
    """Ask for all values of the wanted keys."""
    keys = _enumerate([key for key, _ in wanted])
    values = [value for _, values in wanted for value in values]
    single = len(values) == 1
    kind = shape.value_kind[:-1] if single else shape.value_kind
    question = (QUESTION_ONE if single else QUESTION).format(kind=kind, keys=keys)
    prefix = (PREFIX_ONE if single else PREFIX).format(kind=kind, keys=keys)
    conversation.ask(question, prefix, " " + _enumerate(values) + ".")


def _enumerate(items: list[str]) -> str:
    """`a`, or `a, and b`, or `a, b, and c`."""
    if len(items) == 1:
        return items[0]
    return ", ".join(items[:-1]) + ", and " + items[-1]
