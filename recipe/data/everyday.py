"""Facts in everyday wording, asked as `asterism ask` asks them: document | question | answer.

Wider than facts.py in its names, numbers and wordings, and with the engine's own frames. Facts come
in groups of look-alikes: the same wording with one name, or half of one, changed.
"""

import re
from random import Random

from data.conversation import BEGIN, CHAT, END_TEXT, Conversation, Frame, Segment
from data.facts import CITIES, SURNAMES, THINGS
from data.names import LAST_ENDINGS, TOWN_ENDINGS, made_up, person, town
from data.prose import Prose, scatter
from data.vocabulary import ADJECTIVES, NOUNS, PEOPLE, coded_word
from data.wordings import EARLIER, FURTHER, Wording

# A base model is asked so (crates/asterism/src/text/prompt.rs).
ASKED = Frame(BEGIN, "", "", END_TEXT)
CHAT_SHARE = 0.85
USUAL_NAMES_SHARE = 0.25  # those of facts.py
BOOK_NAMES_SHARE = 0.2  # of the towns and half-names of people
USUAL_THINGS_SHARE = 0.4
LOOKALIKES_SHARE = 0.6  # of the facts have up to four look-alikes
USUAL_QUESTION_SHARE = 0.75
EARLIER_SHARE = 0.45  # of the wordings are those of facts.py
MOST_FACTS = 48
FACT_CHARS, QUESTION_CHARS = 65, 130  # what a fact takes, and a question with its answer
VALUE_WEIGHT = 2.0  # the rest of an answer repeats its question

Fields = dict[str, str]  # what stands for {a} and so on
COLOURS = "red blue green yellow white black purple orange brown gray pink golden silver".split()


def everyday_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """Facts in book text, and questions about some or all."""
    wanted = rng.randint(1, min(MOST_FACTS, max(2, n_chars // 300)))
    by_question: dict[str, Wording] = {}
    while len(by_question) < wanted:
        for fact in _group(rng, prose)[: wanted - len(by_question)]:
            by_question.setdefault(fact.questions[0], fact)  # no two answers to one question
    hidden = list(by_question.values())
    rng.shuffle(hidden)
    asked = len(hidden) if rng.random() < 0.5 else rng.randint(1, len(hidden))
    sentences = prose.sentences(rng, max(0, n_chars - FACT_CHARS * len(hidden) - QUESTION_CHARS * asked))
    scatter(rng, sentences, [fact.lead + fact.rest for fact in hidden])

    conversation = Conversation(rng, CHAT if rng.random() < CHAT_SHARE else ASKED)
    conversation.context(" ".join(sentences).strip())
    for fact in rng.sample(hidden, asked):
        question = fact.questions[0] if rng.random() < USUAL_QUESTION_SHARE else rng.choice(fact.questions)
        if conversation.chat:
            # The document ends the first part of the prompt; later questions are turns of their own.
            space = "" if conversation.questions else "\n\n"
            conversation.ask(space + question, "", Segment(fact.lead, 1), Segment(fact.rest, VALUE_WEIGHT))
        else:
            answer = Segment(" " + fact.lead, 1), Segment(fact.rest, VALUE_WEIGHT)
            conversation.ask(f"\n\nQuestion: {question}\nAnswer:", "", *answer)
    return conversation.segments


def _group(rng: Random, prose: Prose) -> list[Wording]:
    """A fact, and often others that differ from it in one field of the question, and in the answer."""
    wording = rng.choice(EARLIER if rng.random() < EARLIER_SHARE else FURTHER)
    fields = _fields(rng, prose)
    facts = [_worded(wording, fields)]
    if rng.random() < LOOKALIKES_SHARE:
        asked = re.findall(r"{(\w+)}", wording.questions[0])
        for _ in range(rng.randint(1, 4)):
            changed = rng.choice(asked)
            other = _fields(rng, prose)
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


def _worded(wording: Wording, fields: Fields) -> Wording:
    """The wording with its fields filled in."""
    questions = tuple(question.format(**fields) for question in wording.questions)
    return Wording(questions, wording.lead.format(**fields), wording.rest.format(**fields))


def _fields(rng: Random, prose: Prose) -> Fields:
    usual = rng.random() < USUAL_NAMES_SHARE
    new_person, new_town = (_usual_person, _usual_town) if usual else (_person, _town)
    digits = rng.randint(3, 7)
    return {
        "a": new_person(rng, prose), "b": new_person(rng, prose),
        "c": new_town(rng, prose), "d": new_town(rng, prose),
        "thing": rng.choice(THINGS) if rng.random() < USUAL_THINGS_SHARE else _word(rng, NOUNS, prose),
        "w": _word(rng, ADJECTIVES, prose) + "-" + _word(rng, NOUNS, prose),
        "n": str(rng.randrange(10 ** (digits - 1), 10**digits)),
        "noun": rng.choice(NOUNS), "colour": rng.choice(COLOURS), "few": str(rng.randint(2, 99)),
        "name": person(rng).split()[0], "year": str(rng.randint(1700, 2024)),
        "time": f"{rng.randint(1, 23)}:{rng.randint(0, 59):02}",
        "plate": "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2)) + str(rng.randint(100, 9999)),
    }  # fmt: skip


def _usual_person(rng: Random, prose: Prose) -> str:
    return rng.choice(PEOPLE) + " " + rng.choice(SURNAMES)


def _usual_town(rng: Random, prose: Prose) -> str:
    return rng.choice(CITIES)


def _person(rng: Random, prose: Prose) -> str:
    halves = person(rng).split()
    return " ".join(rng.choice(prose.names) if rng.random() < BOOK_NAMES_SHARE else half for half in halves)


def _town(rng: Random, prose: Prose) -> str:
    return rng.choice(prose.names) if rng.random() < BOOK_NAMES_SHARE else town(rng)


def _word(rng: Random, listed: list[str], prose: Prose) -> str:
    """Half of a pair: from a list, from the books, or a word that the model cannot know."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(listed)
    if kind < 0.75:
        return rng.choice(prose.words)
    if kind < 0.85:
        return coded_word(rng)
    return made_up(rng, rng.choice([LAST_ENDINGS, TOWN_ENDINGS])).lower()
