"""Synthetic training samples: what they are, how often each kind is drawn, how long its text is."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from data.babi import story_sample
from data.conversation import Segment
from data.facts import fact_sample
from data.niah import needle_sample
from data.prose import Prose, passage_sample
from data.variable_tracking import chain_sample
from data.words import common_words_sample, frequent_words_sample


@dataclass(frozen=True)
class Task:
    """A family of samples. `generate` takes the random source, the wished-for length and a book."""

    generate: Callable[[Random, int, Prose], list[Segment]]
    weight: int  # share of the training samples, in percent
    chars_per_token: float  # a first guess, corrected when a sample turns out too long


TASKS = {
    "niah": Task(needle_sample, 42, 2.9),
    "vt": Task(chain_sample, 16, 3.5),
    "cwe": Task(common_words_sample, 8, 1.35),
    "fwe": Task(frequent_words_sample, 6, 2.45),
    "babi": Task(story_sample, 8, 3.4),
    "facts": Task(fact_sample, 14, 3.3),
    "text": Task(passage_sample, 6, 3.5),
}


def draw_task(rng: Random) -> str:
    """The name of a task, drawn by weight."""
    return rng.choices(list(TASKS), [task.weight for task in TASKS.values()])[0]
