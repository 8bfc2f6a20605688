"""Stories of people who walk about and carry things, told between the sentences of a book.

Modelled on the bAbI tasks as BABILong uses them: where is a person, where is an object?
"""

from random import Random

from data.conversation import Conversation, Segment
from data.prose import Prose, scatter
from data.vocabulary import PEOPLE

PLACES = [
    "bathroom", "bedroom", "garden", "hallway", "kitchen", "office", "school", "park", "cellar", "library",
]  # fmt: skip
OBJECTS = ["apple", "football", "milk", "box", "book", "lamp", "key"]
MOVE = ["moved to", "went to", "journeyed to", "travelled to", "went back to"]
TAKE = ["picked up", "got", "took", "grabbed"]
DROP = ["dropped", "left", "put down", "discarded"]

CONTEXT = (
    "I will give you context with the facts about positions of different persons hidden in some random text"
    " and a question. You need to answer the question based only on the information from the facts."
    " If a person was in different locations, use the latest location to answer the question.\n{text}\n"
)


class Story:
    """A small world. Each step changes it and adds a sentence to `told`."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.people = rng.sample(PEOPLE, 4)
        self.places = rng.sample(PLACES, 6)
        self.objects = rng.sample(OBJECTS, 3)
        self.person_at: dict[str, str] = {}
        self.object_at: dict[str, str] = {}
        self.holder: dict[str, str] = {}  # object -> person
        self.told: list[str] = []

    def step(self) -> None:
        """Someone moves, or takes or drops an object. Nothing may come of it."""
        person = self.rng.choice(self.people)
        chance = self.rng.random()
        if chance < 0.55 or person not in self.person_at:
            self._move(person)
        elif chance < 0.8:
            self._take(person)
        else:
            self._drop(person)

    def _move(self, person: str) -> None:
        here = self.person_at.get(person)
        place = self.rng.choice([place for place in self.places if place != here])
        self.person_at[person] = place
        self.told.append(f"{person} {self.rng.choice(MOVE)} the {place}.")
        for thing, holder in self.holder.items():
            if holder == person:
                self.object_at[thing] = place

    def _take(self, person: str) -> None:
        thing = self.rng.choice(self.objects)
        if thing not in self.holder:
            self.holder[thing] = person
            self.object_at[thing] = self.person_at[person]
            verb, ending = self.rng.choice(TAKE), self.rng.choice(["", " there"])
            self.told.append(f"{person} {verb} the {thing}{ending}.")

    def _drop(self, person: str) -> None:
        held = [thing for thing, holder in self.holder.items() if holder == person]
        if held:
            del self.holder[held[0]]
            verb, ending = self.rng.choice(DROP), self.rng.choice(["", " there"])
            self.told.append(f"{person} {verb} the {held[0]}{ending}.")


def story_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """A story and up to six questions about its end."""
    story = Story(rng)
    for _ in range(rng.randint(4, 24)):
        story.step()
    sentences = prose.sentences(rng, n_chars) if n_chars > 400 else [""]
    scatter(rng, sentences, story.told)

    conversation = Conversation(rng)
    conversation.context(CONTEXT.format(text=" ".join(sentences).strip()))
    questions = [(f"Where is {person}?", place) for person, place in story.person_at.items()]
    questions += [(f"Where is the {thing}?", place) for thing, place in story.object_at.items()]
    rng.shuffle(questions)
    for question, place in questions[: rng.randint(1, 6)]:
        conversation.ask("Question: " + question, " Answer:", " " + place)
    return conversation.segments
