"""The stories of BABILong's tasks qa1 to qa5, told as `asterism eval babilong` tells them.

A port of crates/asterism-eval/src/babilong: worlds, wording and shares are the same, the random numbers are not.
"""

from dataclasses import dataclass, field
from random import Random

PEOPLE = ["John", "Mary", "Sandra", "Daniel"]
GIVERS = ["Fred", "Jeff", "Bill", "Mary"]
PLACES = ["bathroom", "bedroom", "garden", "hallway", "kitchen", "office"]
THINGS = ["apple", "football", "milk"]
MOVES = ["went to", "went back to", "journeyed to", "travelled to", "moved to"]
GETS = ["got", "took", "grabbed", "picked up"]
DROPS = ["dropped", "put down", "left", "discarded"]
GIVES = ["gave", "handed", "passed"]
MOST_FACTS = 300  # of a story: hardly any has as many
COMPASS = ["north", "south", "east", "west"]  # the opposite of i is i ^ 1


@dataclass
class Story:
    """Facts, and questions about all of them with the words of their answers.

    The first question is the task's own; the others are of any task that the world allows.
    """

    facts: list[str] = field(default_factory=list)
    questions: list["Question"] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    text: str
    lead: str  # the answer up to its label
    label: str
    ends: str = "."


class World:
    """People who move, take, drop and give things. All is told, but it begins in the middle."""

    def __init__(self, rng: Random, people: list[str], there: tuple[float, float]) -> None:
        self.rng, self.people, self.there = rng, people, there
        self.place = {person: rng.choice(PLACES) for person in people}
        self.lies = {thing: rng.choice(PLACES) for thing in THINGS}
        self.holder: dict[str, str | None] = dict.fromkeys(THINGS)
        self.told = dict.fromkeys(people, False)
        # The places at which each thing was last known to be, distinct in turn.
        self.history: dict[str, list[str]] = {thing: [] for thing in THINGS}

    def choose(self, kinds: list[str]) -> tuple[str, str, str, str]:
        """A possible act of a random kind: (kind, who, thing, other person or place)."""
        while True:
            kind = self.rng.choice(kinds)
            if kind == "move":
                who = self.rng.choice(self.people)
                to = self.rng.choice([place for place in PLACES if place != self.place[who]])
                return kind, who, "", to
            options = self._options(kind)
            if options:
                return self.rng.choice(options)

    def _options(self, kind: str) -> list[tuple[str, str, str, str]]:
        found = []
        for thing, holder in self.holder.items():
            if kind == "get" and holder is None:
                found += [(kind, p, thing, "") for p in self.people if self.place[p] == self.lies[thing]]
            elif kind == "drop" and holder:
                found.append((kind, holder, thing, ""))
            elif kind == "give" and holder:
                near = [p for p in self.people if p != holder and self.place[p] == self.place[holder]]
                found += [(kind, holder, thing, p) for p in near]
        return found

    def act(self, kind: str, who: str, thing: str, other: str) -> str:
        """Does it and says it."""
        rng = self.rng
        if kind == "move":
            self.place[who], self.told[who] = other, True
            for held, holder in self.holder.items():
                if holder == who:
                    self._seen(held, who)
            return f"{who} {rng.choice(MOVES)} the {other}."
        if kind == "get":
            self.holder[thing] = who
            self._seen(thing, who)
            ending = " there" if rng.random() < self.there[0] else ""
            return f"{who} {rng.choice(GETS)} the {thing}{ending}."
        if kind == "drop":
            self.holder[thing], self.lies[thing] = None, self.place[who]
            ending = " there" if rng.random() < self.there[1] else ""
            return f"{who} {rng.choice(DROPS)} the {thing}{ending}."
        self.holder[thing] = other
        self.told[who] = self.told[other] = self.told[who] or self.told[other]
        self._seen(thing, other)
        return f"{who} {rng.choice(GIVES)} the {thing} to {other}."

    def _seen(self, thing: str, who: str) -> None:
        history = self.history[thing]
        if not self.told[who]:
            history.clear()
        elif history[-1:] != [self.place[who]]:
            history.append(self.place[who])

    def about_people(self) -> list[Question]:
        lead = "The most recent location of {} is"
        told = [person for person in self.people if self.told[person]]
        return [Question(f"Where is {p}? ", lead.format(p), self.place[p]) for p in told]

    def about_things(self) -> list[Question]:
        known = [(thing, history[-1]) for thing, history in self.history.items() if history]
        return [Question(f"Where is the {t}? ", f"The {t} is in the", place) for t, place in known]

    def about_before(self, every: bool = False) -> list[Question]:
        """Where things were before; of the places a thing was at once, the last or every one."""
        found = []
        for thing, history in self.history.items():
            for i in range(1 if every else max(1, len(history) - 1), len(history)):
                earlier, place = history[i - 1 : i + 1]
                if history.count(place) == 1:
                    lead = f"Before the {place} the {thing} was in the"
                    found.append(Question(f"Where was the {thing} before the {place}? ", lead, earlier))
        return found


def where_is_person(rng: Random) -> Story:
    """qa1: one to five times two moves."""
    world = World(rng, PEOPLE, (0, 0))
    facts = [world.act(*world.choose(["move"])) for _ in range(2 * rng.randint(1, 5))]
    questions = world.about_people()
    rng.shuffle(questions)
    return Story(facts, questions)


def where_is_thing(rng: Random, before: bool) -> Story:
    """qa2 and qa3: where a thing is, and where it was before."""
    world = World(rng, PEOPLE, (0.2, 0.2) if before else (1.0, 0.2))
    facts: list[str] = []
    since, left = 0, rng.randint(1, 5)  # facts since a question; questions until that of the sample
    chance = 1 / 7 if before else 0.5
    while len(facts) < MOST_FACTS:
        facts.append(world.act(*world.choose(["get", "drop", "move"])))
        since += 1
        if since >= 3 and rng.random() < chance:
            options = world.about_before() if before else world.about_things()
            if options:
                since, left = 0, left - 1
            if options and left == 0:
                break
    else:  # each place of a thing has been one before: no question will come any more
        return where_is_thing(rng, before)
    more = world.about_people() + world.about_things() + world.about_before(every=True)
    rng.shuffle(more)
    return Story(facts, [rng.choice(options), *more])


def two_directions(rng: Random) -> Story:
    """qa4: three places in a row; what lies on one side of the middle one."""
    row = rng.sample(PLACES, 3)
    direction = rng.randrange(4)
    facts = [_relation(rng, row[0], direction, row[1]), _relation(rng, row[1], direction, row[2])]
    rng.shuffle(facts)
    questions = []
    for answer, side in [(row[0], direction), (row[2], direction ^ 1)]:
        text = f"What is {COMPASS[side]} of the {row[1]}?"
        if rng.random() < 0.5:
            text = f"What is the {row[1]} {COMPASS[side ^ 1]} of?"
        questions.append(Question(text, "", answer, ends=""))
    rng.shuffle(questions)
    return Story(facts, questions)


def _relation(rng: Random, a: str, direction: int, b: str) -> str:
    if rng.random() < 0.5:
        return f"The {a} is {COMPASS[direction]} of the {b}."
    return f"The {b} is {COMPASS[direction ^ 1]} of the {a}."


def who_gave(rng: Random) -> Story:
    """qa5: who gave what to whom. Nothing that is related comes after the gift that is asked about."""
    kinds = ["get", "give", "move", "drop"]
    world = World(rng, GIVERS, (1.0, 0.2))
    facts: list[str] = []
    questions: list[Question] = []
    left = rng.randint(1, 5)
    while left:
        act = world.choose(kinds)
        facts.append(world.act(*act))
        kind, a, thing, b = act
        if kind != "give":
            continue
        left -= 1
        for _ in range(rng.randrange(6)):
            other = world.choose(kinds)
            if other[2] != thing and not (other[0] == "give" and (other[1], other[3]) == (a, b)):
                facts.append(world.act(*other))
        asked = [
            Question(f"What did {a} give to {b}? ", "", thing, ""),
            Question(f"What did {a} give to {b}? ", "", thing, ""),
            Question(f"Who did {a} give the {thing} to? ", "", b, ""),
            Question(f"Who gave the {thing} to {b}? ", "", a, ""),
            Question(f"Who gave the {thing}? ", "", a, ""),
            Question(f"Who received the {thing}? ", "", b, ""),
        ]
        rng.shuffle(asked)
        questions = asked
    return Story(facts, questions)
