"""Facts in everyday wording, hidden in a book and asked for in full sentences."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from data.conversation import Conversation, Segment
from data.prose import Prose, scatter
from data.vocabulary import PEOPLE, word_pair

CITIES = [
    "Lisbon", "Oslo", "Cairo", "Lima", "Quito", "Seoul", "Delhi", "Milan", "Prague", "Dublin", "Boston",
    "Denver", "Sydney", "Nairobi", "Havana", "Kyoto", "Vienna", "Athens", "Geneva", "Warsaw",
]  # fmt: skip
THINGS = [
    "vault", "archive", "server", "harbor", "tower", "library", "station", "museum", "laboratory",
    "warehouse", "factory", "theater", "airport", "hotel", "bridge",
]  # fmt: skip
SURNAMES = [
    "Carter", "Nguyen", "Okafor", "Silva", "Petrov", "Haddad", "Larsen", "Moreno", "Tanaka", "Fischer",
    "Rossi", "Novak", "Dubois", "Khan", "Ellis", "Walsh",
]  # fmt: skip
OPENINGS = ["", "Read the following text and answer the question.\n", "Here is a document.\n"]


class Names(NamedTuple):
    """What a fact may be about."""

    city: str
    thing: str
    person: str
    word: str
    number: str


class Fact(NamedTuple):
    """`lead` and `rest` together are the hidden sentence, and also the answer."""

    question: str
    lead: str
    rest: str


STYLES: list[Callable[[Names], Fact]] = [
    lambda n: Fact(
        f"What is the access code for the {n.city} {n.thing}?",
        f"The access code for the {n.city} {n.thing} is",
        f" {n.number}.",
    ),
    lambda n: Fact(f"What is {n.person}'s phone number?", f"{n.person}'s phone number is", f" {n.number}."),
    lambda n: Fact(
        f"What is the secret word of {n.person}?", f"The secret word of {n.person} is", f" {n.word}."
    ),
    lambda n: Fact(f"Where does {n.person} live?", f"{n.person} lives in", f" {n.city}."),
    lambda n: Fact(
        f"Where does {n.person} keep the {n.word}?",
        f"{n.person} keeps the {n.word} in",
        f" the {n.city} {n.thing}.",
    ),
    lambda n: Fact(
        f"What is the budget of the {n.word} project?",
        f"The budget of the {n.word} project is",
        f" {n.number} dollars.",
    ),
    lambda n: Fact(
        f"Where does the meeting about the {n.word} project take place?",
        f"The meeting about the {n.word} project takes place in",
        f" {n.city}.",
    ),
    lambda n: Fact(
        f"Who is the leader of the {n.word} project?",
        f"The leader of the {n.word} project is",
        f" {n.person}.",
    ),
]


def fact_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """Up to twelve facts in book text, and up to eight questions."""
    by_question: dict[str, Fact] = {}
    for _ in range(rng.randint(1, 12)):
        fact = _draw(rng)
        by_question.setdefault(fact.question, fact)  # no two answers to one question
    hidden = list(by_question.values())
    sentences = prose.sentences(rng, n_chars) if n_chars > 400 else []
    scatter(rng, sentences, [fact.lead + fact.rest for fact in hidden])

    conversation = Conversation(rng)
    conversation.context(rng.choice(OPENINGS) + " ".join(sentences) + "\n\n")
    rng.shuffle(hidden)
    for fact in hidden[: rng.randint(1, 8)]:
        label = rng.choice(["", "Question: "])
        space = "" if conversation.chat else " "
        conversation.ask(label + fact.question, "", space + fact.lead + fact.rest)
    return conversation.segments


def _draw(rng: Random) -> Fact:
    style = STYLES[rng.randrange(len(STYLES))]
    return style(
        Names(
            city=rng.choice(CITIES),
            thing=rng.choice(THINGS),
            person=rng.choice(PEOPLE) + " " + rng.choice(SURNAMES),
            word=word_pair(rng),
            number=str(rng.randint(10 ** rng.randint(2, 6), 10**7 - 1)),
        )
    )
