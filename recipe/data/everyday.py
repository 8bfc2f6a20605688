"""Facts in everyday wording, asked as `asterism ask` asks them: document | question | answer.

Wider than facts.py in its names, numbers and wordings, and with the engine's own frames.
"""

from random import Random

from data.conversation import BEGIN, CHAT, END_TEXT, Conversation, Frame, Segment
from data.facts import CITIES, STYLES, SURNAMES, THINGS, Fact, Names
from data.names import person, town
from data.prose import Prose, scatter
from data.vocabulary import NOUNS, PEOPLE, word_pair

# A base model is asked so (src/text/prompt.rs).
ASKED = Frame(BEGIN, "", "", END_TEXT)
CHAT_SHARE = 0.85
USUAL_NAMES_SHARE = 0.25  # those of facts.py

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
COLOURS = "red blue green yellow white black purple orange brown gray pink golden silver".split()


def everyday_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """Up to 24 facts in book text, and up to ten questions."""
    by_question: dict[str, Fact] = {}
    for _ in range(rng.randint(1, min(24, max(2, n_chars // 300)))):
        fact = _draw(rng)
        by_question.setdefault(fact.question, fact)  # no two answers to one question
    hidden = list(by_question.values())
    sentences = prose.sentences(rng, max(0, n_chars - 65 * len(hidden)))
    scatter(rng, sentences, [fact.lead + fact.rest for fact in hidden])

    conversation = Conversation(rng, CHAT if rng.random() < CHAT_SHARE else ASKED)
    conversation.context(" ".join(sentences).strip())
    rng.shuffle(hidden)
    for fact in hidden[: rng.randint(1, 10)]:
        sentence = fact.lead + fact.rest
        if conversation.chat:
            # The document ends the first part of the prompt; later questions are turns of their own.
            space = "" if conversation.questions else "\n\n"
            conversation.ask(space + fact.question, "", sentence)
        else:
            conversation.ask(f"\n\nQuestion: {fact.question}\nAnswer:", "", " " + sentence)
    return conversation.segments


def _draw(rng: Random) -> Fact:
    usual = rng.random() < USUAL_NAMES_SHARE
    a, b = (_usual_person(rng), _usual_person(rng)) if usual else (person(rng), person(rng))
    c, d = (rng.choice(CITIES), rng.choice(CITIES)) if usual else (town(rng), town(rng))
    word = word_pair(rng)
    digits = rng.randint(3, 7)
    number = str(rng.randrange(10 ** (digits - 1), 10**digits))
    thing = rng.choice(THINGS)
    if rng.random() < 0.45:
        return rng.choice(STYLES)(Names(city=c, thing=thing, person=a, word=word, number=number))
    fields = {
        "a": a, "b": b, "c": c, "d": d, "w": word, "n": number, "thing": thing,
        "noun": rng.choice(NOUNS), "colour": rng.choice(COLOURS), "few": str(rng.randint(2, 99)),
        "name": person(rng).split()[0], "year": str(rng.randint(1700, 2024)),
        "time": f"{rng.randint(1, 23)}:{rng.randint(0, 59):02}",
        "plate": "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2)) + str(rng.randint(100, 9999)),
    }  # fmt: skip
    return Fact(*(part.format(**fields) for part in rng.choice(WORDINGS)))


def _usual_person(rng: Random) -> str:
    return rng.choice(PEOPLE) + " " + rng.choice(SURNAMES)
