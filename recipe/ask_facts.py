"""Hide everyday facts in the held-out book and ask the program for them, dense and with star attention.

    python ask_facts.py ../target/release/asterism trained --lengths 4000,16000,60000,110000 --texts 4

Each text has 24 facts: twelve with names of the lists that training draws from, and twelve with people,
towns, buildings and words that it cannot draw. An answer is right if it contains the value.
"""

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

from data.facts import CITIES, STYLES, SURNAMES, THINGS, Fact, Names
from data.names import FIRST, LAST, TOWNS
from data.prose import Prose, load_books, scatter
from data.vocabulary import ADJECTIVES, NOUNS, PEOPLE, WORDS, held_out_words

CHARS_PER_TOKEN = 3.45
FACTS_OF_A_KIND = 12
METHODS = {"dense": ["--method", "dense"], "star 4K": ["--method", "star", "--block", "4k"]}


class World(NamedTuple):
    """What facts are about."""

    people: list[str]
    towns: list[str]
    things: list[str]
    adjectives: list[str]
    nouns: list[str]


KNOWN = World([f"{a} {b}" for a in PEOPLE for b in SURNAMES], CITIES, THINGS, ADJECTIVES, NOUNS)
NEW = World(
    [
        "Ottoline Brackwater", "Ishmere Follandby", "Wendeline Fosk", "Thaddeus Quillery", "Marisela Voss",
        "Hortensia Krantz", "Ermengarde Thwaite", "Ludmila Zharkova", "Obadiah Strunk", "Perpetua Lindqvist",
        "Casimir Wolanski", "Nkechi Ogunleye", "Siobhan Gallagher", "Rafaela Montenegro",
        "Wilhelmina Proust", "Dashiell Yarrow",
    ],
    "Marrakesh Winnipeg Ljubljana Zanzibar Thessaloniki Inverness Wolverhampton Bratislava Guadalajara Kathmandu"
    " Novosibirsk Penzance Tbilisi Yokohama Ouagadougou Saskatoon".split(),
    "granary foundry shipyard planetarium tannery brewery refinery smithy".split(),
    held_out_words("adjs"),
    held_out_words("nouns"),
)  # fmt: skip


def refuse_known(prose: Prose) -> None:
    """Raise if training can draw a name of NEW."""
    known = {*FIRST, *LAST, *TOWNS, *PEOPLE, *SURNAMES, *CITIES, *THINGS, *WORDS, *prose.names, *prose.words}
    names = [half for person in NEW.people for half in person.split()]
    if drawn := known.intersection([*names, *NEW.towns, *NEW.things]):
        raise ValueError(f"not new: {', '.join(sorted(drawn))}")


def draw_facts(rng: Random, world: World, count: int) -> list[Fact]:
    """Facts with different questions."""
    by_question: dict[str, Fact] = {}
    while len(by_question) < count:
        asked, answer = _names(rng, world), _names(rng, world)
        style = rng.choice(STYLES)
        # The question and the value draw their names apart: nobody lives where the keys are.
        fact = Fact(style(asked).question, style(asked).lead, style(answer).rest)
        by_question.setdefault(fact.question, fact)
    return list(by_question.values())


def _names(rng: Random, world: World) -> Names:
    return Names(
        city=rng.choice(world.towns),
        thing=rng.choice(world.things),
        person=rng.choice(world.people),
        word=rng.choice(world.adjectives) + "-" + rng.choice(world.nouns),
        number=str(rng.randrange(10**3, 10**7)),
    )


def value(fact: Fact) -> str:
    return fact.rest.strip(" .")


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
    train, held_out = load_books(args.books)
    refuse_known(Prose(train))
    prose = Prose(held_out)
    for length in map(int, args.lengths.split(",")):
        right: Counter[tuple[str, str]] = Counter()
        for number in range(args.texts):
            rng = Random(f"{length}/{number}")
            kinds = {"known": draw_facts(rng, KNOWN, FACTS_OF_A_KIND), "new": draw_facts(rng, NEW, FACTS_OF_A_KIND)}
            facts = [(kind, fact) for kind, facts in kinds.items() for fact in facts]
            rng.shuffle(facts)
            sentences = prose.sentences(rng, int(length * CHARS_PER_TOKEN))
            scatter(rng, sentences, [fact.lead + fact.rest for _, fact in facts])
            for method, options in METHODS.items():
                questions = [fact.question for _, fact in facts]
                answers = ask(args.program, args.model, options, " ".join(sentences), questions)
                for (kind, fact), answer in zip(facts, answers, strict=True):
                    right[method, kind] += value(fact) in answer
                    if value(fact) not in answer:
                        print(f"{length} tokens, {method}: {fact.lead + fact.rest!r} became {answer!r}")
        asked = args.texts * FACTS_OF_A_KIND
        for (method, kind), count in right.items():
            print(f"{length} tokens, {method}, {kind} names: {count} of {asked}", flush=True)


if __name__ == "__main__":
    main()
