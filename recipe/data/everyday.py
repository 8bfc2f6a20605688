"""Facts in everyday wording, asked as `asterism ask` asks them: document | question | answer.

Wider than facts.py in its names, numbers and wordings, and with the engine's own frames. Facts come
in groups of look-alikes: the same wording with one name, or half of one, changed.
"""

import re
from random import Random

from data.conversation import BEGIN, CHAT, END_TEXT, Conversation, Frame, Segment
from data.facts import CITIES, STYLES, SURNAMES, THINGS, Fact, Names
from data.names import LAST_ENDINGS, TOWN_ENDINGS, made_up, person, town
from data.prose import Prose, scatter
from data.vocabulary import ADJECTIVES, NOUNS, PEOPLE, coded_word, word_pair

# A base model is asked so (src/text/prompt.rs).
ASKED = Frame(BEGIN, "", "", END_TEXT)
CHAT_SHARE = 0.85
USUAL_NAMES_SHARE = 0.25  # those of facts.py
UNFAMILIAR_WORDS_SHARE = 0.4  # of the pairs of words have one that is made up, or two
LOOKALIKES_SHARE = 0.6  # of the facts have up to four look-alikes

# (question, lead of the sentence, rest of it); {a} and {b} are people, {c} and {d} towns
WORDINGS = [
    ("Who is the mayor of {c}?", "The mayor of {c} is", " {a}."),
    ("Where was {a} born?", "{a} was born in", " {c}."),
    ("When does the train to {c} leave?", "The train to {c} leaves at", " {time}."),
    ("What is the password of the {w} account?", "The password of the {w} account is", " {n}."),
    ("Who owns the {w} boat?", "The {w} boat is owned by", " {a}."),
    ("What colour is {a}'s door?", "The colour of {a}'s door is", " {colour}."),
    ("How many {noun}s did {a} buy?", "{a} bought", " {few} {noun}s."),
    ("Who wrote the letter to {a}?", "The letter to {a} was written by", " {b}."),
    ("What is the name of {a}'s dog?", "The name of {a}'s dog is", " {name}."),
    ("In which room does {a} work?", "{a} works in room", " {n}."),
    ("Where did {a} meet {b}?", "{a} met {b} in", " {c}."),
    ("How much does the {w} ticket cost?", "The {w} ticket costs", " {n} dollars."),
    ("What did {a} lose in {c}?", "In {c}, {a} lost the", " {w}."),
    ("Which year was the {c} {thing} built?", "The {c} {thing} was built in", " {year}."),
    ("What is the license plate of {a}'s car?", "The license plate of {a}'s car is", " {plate}."),
    ("Who repaired the {c} {thing}?", "The {c} {thing} was repaired by", " {a}."),
    ("What is the flight number from {c} to {d}?", "The flight number from {c} to {d} is", " {plate}."),
    ("What is {a}'s favourite {noun}?", "{a}'s favourite {noun} is the", " {w}."),
    ("Where is the {w} hidden?", "The {w} is hidden in", " the {c} {thing}."),
    ("What is the code name of agent {a}?", "The code name of agent {a} is", " {w}."),
]
# and those of facts.py
EARLIER_WORDINGS: list[tuple[str, str, str]] = [
    style(Names(city="{c}", thing="{thing}", person="{a}", word="{w}", number="{n}")) for style in STYLES
]
EARLIER_SHARE = 0.45
Fields = dict[str, str]  # what stands for {a} and so on
COLOURS = "red blue green yellow white black purple orange brown gray pink golden silver".split()


def everyday_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """Up to 24 facts in book text, and questions about some or all."""
    wanted = rng.randint(1, min(24, max(2, n_chars // 300)))
    by_question: dict[str, Fact] = {}
    while len(by_question) < wanted:
        for fact in _group(rng)[: wanted - len(by_question)]:
            by_question.setdefault(fact.question, fact)  # no two answers to one question
    hidden = list(by_question.values())
    rng.shuffle(hidden)
    sentences = prose.sentences(rng, max(0, n_chars - 65 * len(hidden)))
    scatter(rng, sentences, [fact.lead + fact.rest for fact in hidden])

    conversation = Conversation(rng, CHAT if rng.random() < CHAT_SHARE else ASKED)
    conversation.context(" ".join(sentences).strip())
    rng.shuffle(hidden)
    for fact in hidden[: rng.randint(1, len(hidden))]:
        sentence = fact.lead + fact.rest
        if conversation.chat:
            # The document ends the first part of the prompt; later questions are turns of their own.
            space = "" if conversation.questions else "\n\n"
            conversation.ask(space + fact.question, "", sentence)
        else:
            conversation.ask(f"\n\nQuestion: {fact.question}\nAnswer:", "", " " + sentence)
    return conversation.segments


def _group(rng: Random) -> list[Fact]:
    """A fact, and often others that differ from it in one field of the question, and in the answer."""
    wording = rng.choice(EARLIER_WORDINGS if rng.random() < EARLIER_SHARE else WORDINGS)
    fields = _fields(rng)
    facts = [_worded(wording, fields)]
    if rng.random() < LOOKALIKES_SHARE:
        asked = re.findall(r"{(\w+)}", wording[0])
        for _ in range(rng.randint(1, 4)):
            changed = rng.choice(asked)
            other = _fields(rng)
            kept = {field: fields[field] for field in asked if field != changed}
            facts.append(_worded(wording, other | kept | {changed: _like(rng, fields[changed], other[changed])}))
    return facts


def _like(rng: Random, name: str, other: str) -> str:
    """`other`, or what is half `name` and half `other`, if both have two words."""
    for between in " -":
        mine, its = name.split(between), other.split(between)
        if len(mine) == len(its) == 2 and rng.random() < 0.6:
            return between.join([mine[0], its[1]] if rng.random() < 0.5 else [its[0], mine[1]])
    return other


def _worded(wording: tuple[str, str, str], fields: Fields) -> Fact:
    return Fact(*(part.format(**fields) for part in wording))


def _fields(rng: Random) -> Fields:
    usual = rng.random() < USUAL_NAMES_SHARE
    a, b = (_usual_person(rng), _usual_person(rng)) if usual else (person(rng), person(rng))
    c, d = (rng.choice(CITIES), rng.choice(CITIES)) if usual else (town(rng), town(rng))
    digits = rng.randint(3, 7)
    return {
        "a": a, "b": b, "c": c, "d": d, "w": _word(rng), "thing": rng.choice(THINGS),
        "n": str(rng.randrange(10 ** (digits - 1), 10**digits)),
        "noun": rng.choice(NOUNS), "colour": rng.choice(COLOURS), "few": str(rng.randint(2, 99)),
        "name": person(rng).split()[0], "year": str(rng.randint(1700, 2024)),
        "time": f"{rng.randint(1, 23)}:{rng.randint(0, 59):02}",
        "plate": "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2)) + str(rng.randint(100, 9999)),
    }  # fmt: skip


def _usual_person(rng: Random) -> str:
    return rng.choice(PEOPLE) + " " + rng.choice(SURNAMES)


def _word(rng: Random) -> str:
    """Two words and a hyphen; either may be one that the model cannot know."""
    if rng.random() >= UNFAMILIAR_WORDS_SHARE:
        return word_pair(rng)
    first, second = (
        rng.choice(known) if rng.random() < 0.4 else _unknown_word(rng) for known in (ADJECTIVES, NOUNS)
    )
    return f"{first}-{second}"


def _unknown_word(rng: Random) -> str:
    if rng.random() < 0.3:
        return coded_word(rng)
    return made_up(rng, rng.choice([LAST_ENDINGS, TOWN_ENDINGS])).lower()
