"""Synthetic training samples: what they are, how often each kind is drawn, how long its text is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from data import babilong, ruler
from data.babi import story_sample
from data.conversation import Segment
from data.everyday import everyday_sample
from data.facts import fact_sample
from data.niah import needle_sample
from data.prose import Prose, passage_sample
from data.variable_tracking import chain_sample
from data.words import common_words_sample, frequent_words_sample


@dataclass(frozen=True)
class Task:
    """A family of samples. `generate` takes the random source, the wished-for length and a book."""

    generate: Callable[[Random, int, Prose], list[Segment]]
    chars_per_token: float  # a first guess, corrected when a sample turns out too long
    extra_tokens: int = 220  # left free for questions and answers


TASKS = {
    "niah": Task(needle_sample, 2.9),
    "vt": Task(chain_sample, 3.5),
    "cwe": Task(common_words_sample, 1.35),
    "fwe": Task(frequent_words_sample, 2.45),
    "babi": Task(story_sample, 3.4),
    "facts": Task(fact_sample, 3.3),
    "text": Task(passage_sample, 3.5, 0),
    # With the exact prompts of the project's benchmarks
    "ruler niah": Task(ruler.retrieval, 3.4),
    "alike keys": Task(ruler.alike_keys, 3.5),
    "ruler vt": Task(ruler.variable_tracking, 3.68, 110),
    "ruler cwe": Task(ruler.common_words, ruler.CHARS_PER_TOKEN, 100),
    "sparse cwe": Task(partial(ruler.common_words, sparse=True), ruler.CHARS_PER_TOKEN, 100),
    "ruler fwe": Task(ruler.frequent_words, 2.1, 100),
    **{qa: Task(partial(babilong.story_sample, task=qa), 3.7, 260) for qa in babilong.STORIES},
    "everyday": Task(everyday_sample, 3.4),
}
FAMILIES = list(TASKS)

# Shares of the training samples in each part, in percent
START = {"niah": 42, "vt": 16, "cwe": 8, "fwe": 6, "babi": 8, "facts": 14, "text": 6}
EXACT_SHORT = {
    "ruler niah": 5, "alike keys": 7, "ruler vt": 4, "ruler cwe": 7, "sparse cwe": 3, "ruler fwe": 6,
    "everyday": 14, "facts": 2, "qa1": 3, "qa2": 14, "qa3": 25, "qa4": 4, "qa5": 5, "text": 1,
}  # fmt: skip
EXACT_LONG = {
    "ruler niah": 9, "alike keys": 18, "ruler vt": 7, "ruler cwe": 15, "ruler fwe": 10, "everyday": 16,
    "facts": 2, "qa1": 2, "qa2": 7, "qa3": 8, "qa4": 3, "qa5": 2, "text": 1,
}  # fmt: skip


def draw_task(rng: Random, shares: dict[str, int] = START) -> str:
    """The name of a task, drawn by weight."""
    return rng.choices(list(shares), list(shares.values()))[0]
