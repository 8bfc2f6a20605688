"""Hide everyday facts in the held-out book and ask the program for them, dense and with star attention.

    python ask_facts.py ../target/release/asterism trained --lengths 4000,16000,60000,110000 --texts 4

Each text has 24 facts: twelve with names of the lists that training draws from, and twelve with people,
towns, buildings and words that it never drew. An answer is right if it contains the value.
"""

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

from data.facts import CITIES, SURNAMES, THINGS
from data.prose import Prose, load_books, scatter
from data.vocabulary import ADJECTIVES, NOUNS, PEOPLE, held_out_words

CHARS_PER_TOKEN = 3.45
FACTS_OF_A_KIND = 12
METHODS = {"dense": ["--method", "dense"], "star 4K": ["--method", "star", "--block", "4k"]}

# (question, sentence, what kind of value {v} is)
WORDINGS = [
    ("What is the access code for the {c} {t}?", "The access code for the {c} {t} is {v}.", "number"),
    ("What is {p}'s phone number?", "{p}'s phone number is {v}.", "number"),
    ("What is the secret word of {p}?", "The secret word of {p} is {v}.", "words"),
    ("Where does {p} live?", "{p} lives in {v}.", "town"),
    ("What is the budget of the {w} project?", "The budget of the {w} project is {v} dollars.", "number"),
    ("Where does {p} keep the {w}?", "{p} keeps the {w} in the {v}.", "building"),
    ("Who is the leader of the {w} project?", "The leader of the {w} project is {v}.", "person"),
    (
        "Where does the meeting about the {w} project take place?",
        "The meeting about the {w} project takes place in {v}.",
        "town",
    ),
]


class World(NamedTuple):
    """What facts are about."""

    people: list[str]
    towns: list[str]
    things: list[str]
    adjectives: list[str]
    nouns: list[str]


KNOWN = World([f"{a} {b}" for a in PEOPLE for b in SURNAMES], CITIES, THINGS, ADJECTIVES, NOUNS)
NEW = World(
    """Ottoline Brackwater,Ishmere Tolland,Wendeline Fosk,Thaddeus Quillery,Marisela Voss,Bartholomew Crane,
    Ingrid Castellan,Ludmila Zharkova,Obadiah Strunk,Perpetua Lindqvist,Casimir Wolanski,Nkechi Adebayo,
    Siobhan Gallagher,Rafaela Montenegro,Wilhelmina Prout,Dashiell Yarrow""".replace("\n    ", "").split(","),
    """Marrakesh Winnipeg Ljubljana Zanzibar Thessaloniki Inverness Aldershot Bratislava Guadalajara Kathmandu
    Novosibirsk Penzance Tbilisi Yokohama Ouagadougou Saskatoon""".split(),
    "granary observatory foundry orchard cathedral shipyard quarry bakery".split(),
    held_out_words("adjs"),
    held_out_words("nouns"),
)


class Fact(NamedTuple):
    question: str
    sentence: str
    value: str


def draw_facts(rng: Random, world: World, count: int) -> list[Fact]:
    """Facts with different questions."""
    by_question: dict[str, Fact] = {}
    while len(by_question) < count:
        question, sentence, kind = rng.choice(WORDINGS)
        names, values = _fields(rng, world), _fields(rng, world)
        value = {
            "number": str(rng.randrange(10**3, 10**7)), "words": values["w"], "town": values["c"],
            "person": values["p"], "building": f"{values['c']} {values['t']}",
        }[kind]  # fmt: skip
        fact = Fact(question.format(**names), sentence.format(v=value, **names), value)
        by_question.setdefault(fact.question, fact)
    return list(by_question.values())


def _fields(rng: Random, world: World) -> dict[str, str]:
    return {
        "p": rng.choice(world.people), "c": rng.choice(world.towns), "t": rng.choice(world.things),
        "w": rng.choice(world.adjectives) + "-" + rng.choice(world.nouns),
    }  # fmt: skip


def ask(program: str, model: str, method: list[str], text: str, questions: list[str]) -> list[str]:
    """The program's answers to all questions about one text."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        command = [program, "ask", "-m", model, "-c", file.name, "--json", *method]
        asked = "\n".join(questions) + "\n"
        output = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line)["answer"] for line in output.splitlines()]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--books", type=Path, default=Path("books.json"))
    parser.add_argument("--lengths", default="4000", help="in tokens, about, separated by commas")
    parser.add_argument("--texts", type=int, default=4, help="of each length")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    prose = Prose(load_books(args.books)[1])
    for length in map(int, args.lengths.split(",")):
        right: Counter[tuple[str, str]] = Counter()
        for number in range(args.texts):
            rng = Random(f"{length}/{number}")
            kinds = {"known": draw_facts(rng, KNOWN, FACTS_OF_A_KIND), "new": draw_facts(rng, NEW, FACTS_OF_A_KIND)}
            facts = [(kind, fact) for kind, facts in kinds.items() for fact in facts]
            rng.shuffle(facts)
            sentences = prose.sentences(rng, int(length * CHARS_PER_TOKEN))
            scatter(rng, sentences, [fact.sentence for _, fact in facts])
            for method, options in METHODS.items():
                questions = [fact.question for _, fact in facts]
                answers = ask(args.program, args.model, options, " ".join(sentences), questions)
                for (kind, fact), answer in zip(facts, answers, strict=True):
                    right[method, kind] += fact.value in answer
                    if fact.value not in answer:
                        print(f"{length} tokens, {method}: {fact.sentence!r} became {answer!r}")
        asked = args.texts * FACTS_OF_A_KIND
        for (method, kind), count in right.items():
            print(f"{length} tokens, {method}, {kind} names: {count} of {asked}", flush=True)


if __name__ == "__main__":
    main()
