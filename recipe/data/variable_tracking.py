"""Variable tracking: follow chains of assignments through a text (RULER's `vt`)."""

from itertools import pairwise
from random import Random

from data.conversation import Conversation, Segment
from data.prose import Prose
from data.vocabulary import NOISE, variable

CONTEXT = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{text}\n"
QUESTION = "Question: Find all variables that are assigned the value {value} in the text above."
# "assgined" is how the benchmark spells it
PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above,"
    " {count} variables are assgined the value {value}, they are: "
)
NOISE_SHARE = 0.75


def chain_sample(
    rng: Random, n_chars: int, prose: Prose, chains: int | None = None, hops: int | None = None
) -> list[Segment]:
    """Hide chains such as `VAR A = 12345`, `VAR B = VAR A`, and ask for each chain's variables."""
    chains = chains or rng.choice([1, 1, 2, 3, 4])
    hops = hops or rng.choice([1, 2, 3, 4, 4, 4])
    if rng.random() < NOISE_SHARE:
        lines = [NOISE + "\n"] * max(6, n_chars // (len(NOISE) + 1))
    else:
        lines = prose.sentences(rng, n_chars)
    hidden: list[tuple[list[str], str]] = []  # variables, their value
    for _ in range(chains):
        names = [variable(rng) for _ in range(hops + 1)]
        value = str(rng.randint(10_000, 99_999))
        hidden.append((names, value))
        _insert_in_order(rng, lines, _statements(names, value))
    text = " ".join(lines).replace(". \n", ".\n")

    conversation = Conversation(rng)
    conversation.context(CONTEXT.format(text=text))
    rng.shuffle(hidden)
    for names, value in hidden:
        prefix = PREFIX.format(count=len(names), value=value)
        conversation.ask(QUESTION.format(value=value), prefix, " ".join(names))
    return conversation.segments


def _statements(names: list[str], value: str) -> list[str]:
    steps = [f"VAR {new} = VAR {old} " for old, new in pairwise(names)]
    return [f"VAR {names[0]} = {value}", *steps]


def _insert_in_order(rng: Random, lines: list[str], statements: list[str]) -> None:
    """Each statement before a line of its own. A text with too few lines loses the last ones."""
    places = sorted(rng.sample(range(len(lines)), min(len(statements), len(lines))))
    for shift, place in enumerate(places):
        lines.insert(place + shift, statements[shift])
