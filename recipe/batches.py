"""From task samples to tensors: fit to a length, spread the positions, weigh the tokens."""

import math
from collections.abc import Iterator
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data import TASKS, draw_task
from data.conversation import Segment
from data.prose import Prose

# Weights: padding counts nothing, answers and context are averaged apart (see loss.py).
PADDING, ANSWER, CONTEXT = 0, 1, 2

FULL_LENGTH_SHARE = 0.6  # the other samples are a third as long, or more
FRAME_TOKENS = 220  # of a sample's prompt, question and answer
PLAIN_POSITIONS_SHARE = 0.4
LARGEST_INDEX = 2**40


def encode(tokenizer: Tokenizer, segments: list[Segment]) -> tuple[list[int], list[bool]]:
    """Token ids, and which of them belong to answers. Segments are tokenised one by one."""
    ids: list[int] = []
    is_answer: list[bool] = []
    for segment in segments:
        new = tokenizer.encode(segment.text).ids
        ids += new
        is_answer += [segment.is_answer] * len(new)
    return ids, is_answer


def fitting_sample(
    tokenizer: Tokenizer, rng: Random, prose: Prose, length: int, task: str | None = None
) -> tuple[list[int], list[bool]]:
    """A sample of at most `length` + 1 tokens; of a random task, unless it is named."""
    name = task or draw_task(rng)
    wanted = length if rng.random() < FULL_LENGTH_SHARE else rng.randint(length // 3, length)
    frame = 0 if name == "text" else FRAME_TOKENS
    n_chars = max(100, (wanted - frame) * TASKS[name].chars_per_token)
    for _ in range(8):
        ids, is_answer = encode(tokenizer, TASKS[name].generate(rng, int(n_chars), prose))
        if name == "text":
            return ids[: length + 1], is_answer[: length + 1]
        if len(ids) <= length + 1:
            return ids, is_answer
        n_chars *= 0.93 * length / len(ids)
    return fitting_sample(tokenizer, rng, prose, length, "text")  # some tasks cannot be made this short


def skipping_positions(rng: Random, tokens: int, max_positions: int) -> list[int]:
    """Rising positions with up to four gaps, in total log-uniformly long.

    The model thus meets distances up to `max_positions` in samples that are far shorter
    (the idea of PoSE, arXiv 2309.10400). Some samples keep their plain positions.
    """
    if rng.random() < PLAIN_POSITIONS_SHARE or tokens >= max_positions - 8:
        return list(range(tokens))
    gaps = rng.randint(1, 4)
    cuts = sorted(rng.sample(range(1, tokens), min(gaps, tokens - 1)))
    total = int(math.exp(rng.uniform(math.log(64), math.log(max_positions - tokens))))
    offsets = sorted(rng.randint(0, total) for _ in cuts)
    positions: list[int] = []
    for start, end, offset in zip([0, *cuts], [*cuts, tokens], [0, *offsets], strict=True):
        positions += range(start + offset, end + offset)
    return positions


class Samples(Dataset):
    """Endless samples of one length. The index alone decides a sample, so that runs can resume."""

    def __init__(
        self, tokenizer: Tokenizer, prose: Prose, length: int, max_positions: int, seed: int
    ) -> None:
        self.tokenizer, self.prose = tokenizer, prose
        self.length, self.max_positions, self.seed = length, max_positions, seed

    def __len__(self) -> int:
        return LARGEST_INDEX

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Four tensors of `length`: ids, their positions, the next ids, and the weights of these."""
        rng = Random(f"{self.seed}/{self.length}/{index}")
        ids, is_answer = fitting_sample(self.tokenizer, rng, self.prose, self.length)
        return {
            "ids": self._padded(ids[:-1]),
            "positions": self._padded(skipping_positions(rng, len(ids) - 1, self.max_positions)),
            "targets": self._padded(ids[1:]),
            "weights": self._padded([ANSWER if answer else CONTEXT for answer in is_answer[1:]]),
        }

    def _padded(self, values: list[int]) -> Tensor:
        # Padding follows the text, so causal attention never sees it.
        return torch.tensor(values + [PADDING] * (self.length - len(values)))


def load(samples: Samples, batch_size: int, first: int, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches [batch_size, length] in order, from batch number `first` on."""
    order = range(first * batch_size, LARGEST_INDEX)
    pin = torch.cuda.is_available()
    return iter(DataLoader(samples, batch_size, sampler=order, num_workers=workers, pin_memory=pin))
