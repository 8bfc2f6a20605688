"""How everyday facts are told, and the questions that ask for them.

Fields in braces (everyday.py draws them): {a} and {b} are people, {c} and {d} towns, {thing} a building,
{w} a pair of words, {n} a number, {few} a small one, {noun}, {name}, {colour}, {time}, {year} and {plate} what they say.
"""

from typing import NamedTuple

from data.facts import STYLES, Names


class Wording(NamedTuple):
    """`lead` and `rest` together are the sentence, and also the answer to each of `questions`."""

    questions: tuple[str, ...]  # the usual one first
    lead: str
    rest: str


def _earlier(names: Names) -> list[Wording]:
    """The wordings of facts.py, with more questions."""
    usual = [style(names) for style in STYLES]
    return [
        Wording((fact.question, *others), fact.lead, fact.rest)
        for fact, others in zip(usual, OTHER_QUESTIONS, strict=True)
    ]


OTHER_QUESTIONS = [
    ("Which code opens the {c} {thing}?", "How can one get into the {c} {thing}?"),
    ("Under which number can I call {a}?", "How can {a} be reached by phone?"),
    ("Which word does {a} keep secret?", "What word must nobody hear from {a}?"),
    ("In which city does {a} live?", "Where is {a}'s home?"),
    ("Where is the {w} of {a}?", "Where can I find {a}'s {w}?"),
    ("How much money does the {w} project have?", "How much may the {w} project cost?"),
    ("Where do they meet about the {w} project?", "In which city is the {w} project discussed?"),
    ("Who leads the {w} project?", "Who is in charge of the {w} project?"),
]
EARLIER = _earlier(Names(city="{c}", thing="{thing}", person="{a}", word="{w}", number="{n}"))

FURTHER = [
    Wording(("Who is the mayor of {c}?", "Who governs {c}?"), "The mayor of {c} is", " {a}."),
    Wording(("Where was {a} born?", "What is {a}'s birthplace?"), "{a} was born in", " {c}."),
    Wording(
        ("When does the train to {c} leave?", "At what time can I take a train to {c}?"),
        "The train to {c} leaves at",
        " {time}.",
    ),
    Wording(
        ("What is the password of the {w} account?", "How do I log into the {w} account?"),
        "The password of the {w} account is",
        " {n}.",
    ),
    Wording(
        ("Who owns the {w} boat?", "Whose boat is the {w}?"), "The {w} boat is owned by", " {a}."
    ),
    Wording(
        ("What colour is {a}'s door?", "Which colour does the door of {a} have?"),
        "The colour of {a}'s door is",
        " {colour}.",
    ),
    Wording(
        ("How many {noun}s did {a} buy?", "What number of {noun}s did {a} take home?"),
        "{a} bought",
        " {few} {noun}s.",
    ),
    Wording(
        ("Who wrote the letter to {a}?", "From whom did {a} get a letter?"),
        "The letter to {a} was written by",
        " {b}.",
    ),
    Wording(
        ("What is the name of {a}'s dog?", "What does {a} call the dog?"),
        "The name of {a}'s dog is",
        " {name}.",
    ),
    Wording(
        ("In which room does {a} work?", "What is the room number of {a}?"),
        "{a} works in room",
        " {n}.",
    ),
    Wording(
        ("Where did {a} meet {b}?", "In which town did {a} and {b} meet?"), "{a} met {b} in", " {c}."
    ),
    Wording(
        ("How much does the {w} ticket cost?", "What is the price of the {w} ticket?"),
        "The {w} ticket costs",
        " {n} dollars.",
    ),
    Wording(
        ("What did {a} lose in {c}?", "Which thing of {a} is missing since {c}?"),
        "In {c}, {a} lost the",
        " {w}.",
    ),
    Wording(
        ("Which year was the {c} {thing} built?", "How old is the {c} {thing}?"),
        "The {c} {thing} was built in",
        " {year}.",
    ),
    Wording(
        ("What is the license plate of {a}'s car?", "Which plate does the car of {a} have?"),
        "The license plate of {a}'s car is",
        " {plate}.",
    ),
    Wording(
        ("Who repaired the {c} {thing}?", "Who made the {c} {thing} work again?"),
        "The {c} {thing} was repaired by",
        " {a}.",
    ),
    Wording(
        ("What is the flight number from {c} to {d}?", "Which flight goes from {c} to {d}?"),
        "The flight number from {c} to {d} is",
        " {plate}.",
    ),
    Wording(
        ("What is {a}'s favourite {noun}?", "Which {noun} does {a} like best?"),
        "{a}'s favourite {noun} is the",
        " {w}.",
    ),
    Wording(
        ("Where is the {w} hidden?", "In which place was the {w} put?"),
        "The {w} is hidden in",
        " the {c} {thing}.",
    ),
    Wording(
        ("What is the code name of agent {a}?", "Under which name does agent {a} work?"),
        "The code name of agent {a} is",
        " {w}.",
    ),
]
