"""From task samples to arrays: fit to a length, spread the positions, weigh the tokens."""

import math
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, Dataset

from curriculum import Curriculum
from data import FAMILIES, TASKS, draw_task
from data.conversation import Segment
from data.prose import Prose

# What a token is for: padding, text that is read, answers. The first answer of a sample counts for
# its task in reports: token `FIRST_ANSWER + i` is one of task number `i`.
PADDING, CONTEXT, ANSWER, FIRST_ANSWER = 0, 1, 2, 3
KINDS = FIRST_ANSWER + len(FAMILIES)

LONGEST_WAIT = 60.0  # seconds for a batch

Sample = dict[str, np.ndarray]
Request = tuple[int, int, int]  # number of the batch, place in it, tokens


def encode(tokenizer: Tokenizer, segments: list[Segment]) -> tuple[list[int], list[float]]:
    """Token ids, and their weights as answers. Segments are tokenised one by one."""
    ids: list[int] = []
    weights: list[float] = []
    for segment in segments:
        new = tokenizer.encode(segment.text).ids
        ids += new
        weights += [segment.weight] * len(new)
    return ids, weights


def fitting_sample(
    tokenizer: Tokenizer, rng: Random, prose: Prose, length: int, full_share: float, name: str
) -> tuple[str, list[int], list[float]]:
    """A sample of task `name` of at most `length` + 1 tokens; some are a third as long, or more."""
    task = TASKS[name]
    wanted = length if rng.random() < full_share else rng.randint(length // 3, length)
    n_chars = max(100, (wanted - task.extra_tokens) * task.chars_per_token)
    for _ in range(8):
        ids, weights = encode(tokenizer, task.generate(rng, int(n_chars), prose))
        if name == "text":
            return name, ids[: length + 1], weights[: length + 1]
        if len(ids) <= length + 1:
            return name, ids, weights
        n_chars *= 0.93 * length / len(ids)
    # Some tasks cannot be made this short.
    return fitting_sample(tokenizer, rng, prose, length, full_share, "text")


def skipping_positions(rng: Random, tokens: int, max_positions: int, plain_share: float) -> np.ndarray:
    """Rising positions with up to four gaps, in total log-uniformly long.

    The model thus meets distances up to `max_positions` in samples that are far shorter
    (the idea of PoSE, arXiv 2309.10400). Some samples keep their plain positions.
    """
    positions = np.arange(tokens, dtype=np.int32)
    if rng.random() < plain_share or tokens >= max_positions - 8:
        return positions
    gaps = rng.randint(1, 4)
    cuts = sorted(rng.sample(range(1, tokens), min(gaps, tokens - 1)))
    total = int(math.exp(rng.uniform(math.log(64), math.log(max_positions - tokens))))
    offsets = sorted(rng.randint(0, total) for _ in cuts)
    for start, end, offset in zip(cuts, [*cuts[1:], tokens], offsets, strict=True):
        positions[start:end] += offset
    return positions


def kinds_of(weights: list[float], family: int) -> np.ndarray:
    """What each token is for. Of a first answer with a weightier part, only that part counts for the task."""
    weight = np.asarray(weights, dtype=np.float32)
    kinds = np.where(weight > 0, ANSWER, CONTEXT).astype(np.uint8)
    answers = np.flatnonzero(weight)
    if len(answers):
        first = answers[0]
        after = np.flatnonzero(weight[first:] == 0)
        last = first + after[0] if len(after) else len(weight)
        counted = np.arange(first, last)
        kinds[counted[weight[counted] == weight[counted].max()]] = FIRST_ANSWER + family
    return kinds


class Samples(Dataset):
    """Endless samples. Seed and request alone decide a sample, so that runs can resume."""

    def __init__(
        self, tokenizer: Tokenizer, prose: Prose, curriculum: Curriculum, max_positions: int, seed: int
    ) -> None:
        self.tokenizer, self.prose, self.curriculum = tokenizer, prose, curriculum
        self.max_positions, self.seed = max_positions, seed

    def __getitem__(self, request: Request) -> Sample:
        """`ids` [tokens + 1]; `positions`, `weights` and `kinds` [tokens], the last two of the next id."""
        number, place, length = request
        rng = Random(f"{self.seed}/{length}/{number}/{place}")
        plan = self.curriculum
        name = draw_task(rng, plan.shares(length))
        name, ids, weights = fitting_sample(
            self.tokenizer, rng, self.prose, length, plan.full_length_share, name
        )
        positions = skipping_positions(rng, len(ids) - 1, self.max_positions, plan.plain_positions_share)
        kinds = kinds_of(weights, FAMILIES.index(name))
        return {
            "ids": _padded(ids, length + 1, np.int32),
            "positions": _padded(positions, length, np.int32),
            "weights": _padded(weights[1:], length, np.float32),
            "kinds": _padded(kinds[1:], length, np.uint8),
        }


def _padded(values: list | np.ndarray, length: int, dtype: type) -> np.ndarray:
    # Padding follows the text, so causal attention never sees it.
    padded = np.full(length, PADDING, dtype)
    padded[: len(values)] = values
    return padded


def _stacked(samples: list[Sample]) -> Sample:
    """Arrays, not tensors: they travel through a pipe, and need no shared memory."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def requests(
    curriculum: Curriculum, seed: int, first: int, share_at: Callable[[int], float]
) -> Iterator[list[Request]]:
    """What each batch holds, from batch number `first` on; `share_at` says how much of the budget is used."""
    number = first
    while True:
        stage = curriculum.stage_at(share_at(number))
        length = stage.draw_length(Random(f"{seed}/{number}"))
        yield [(number, place, length) for place in range(max(1, stage.tokens // length))]
        number += 1


def load(samples: Samples, first: int, share_at: Callable[[int], float], workers: int) -> Iterator[Sample]:
    """Batches in order, from batch number `first` on.

    Worker processes are forked here, once: call it before anything touches a GPU or starts threads.
    """
    wanted = requests(samples.curriculum, samples.seed, first, share_at)
    # A generator that never ends is an error, not a long wait.
    timeout = LONGEST_WAIT if workers else 0
    return iter(
        DataLoader(
            samples, batch_sampler=wanted, num_workers=workers, collate_fn=_stacked, timeout=timeout
        )
    )
