"""What training looks like over time: lengths, tasks, learning rate.

`start` begins with nothing. `exact` goes on from there, with the very prompts of the project's
benchmarks, facts that look alike, and real lengths up to 131,072 tokens.
"""

from dataclasses import dataclass, replace
from random import Random

from data import EXACT_LONG, EXACT_SHORT, START


@dataclass(frozen=True)
class Stage:
    """A part of the budget, and how often each length is drawn in it."""

    until: float  # share of the budget at which the stage ends
    lengths: dict[int, int]  # tokens of a sample -> share of the steps, in percent
    tokens: int = 131_072  # of a step, together

    def draw_length(self, rng: Random) -> int:
        return rng.choices(list(self.lengths), list(self.lengths.values()))[0]


@dataclass(frozen=True)
class Curriculum:
    """All that differs between the parts of the recipe."""

    stages: list[Stage]
    short: dict[str, int]  # shares of the tasks in samples below `long_from` tokens
    long: dict[str, int]
    long_from: int
    peak_lr: float
    warmup_steps: int
    decay_from: float  # share of the budget after which the learning rate falls
    full_length_share: float  # of the samples; the others are a third as long, or more
    plain_positions_share: float

    def stage_at(self, share: float) -> Stage:
        return next((stage for stage in self.stages if share < stage.until), self.stages[-1])

    def shapes(self) -> list[tuple[int, int]]:
        """(tokens of a step, tokens of a sample) of all steps there will be."""
        return sorted({(stage.tokens, length) for stage in self.stages for length in stage.lengths})

    def shares(self, length: int) -> dict[str, int]:
        return self.long if length >= self.long_from else self.short

    def learning_rate(self, steps: int, share: float) -> float:
        """Warm up, stay, then fall linearly to almost nothing."""
        warmup = min(1.0, (steps + 1) / self.warmup_steps)
        decay = min(1.0, FINAL_LR + (1 - FINAL_LR) * (1 - share) / (1 - self.decay_from))
        return self.peak_lr * warmup * max(FINAL_LR, decay)

    def scaled(self, longest: int | None, tokens: int | None) -> "Curriculum":
        """For small machines: without lengths above `longest`, with `tokens` tokens a step."""
        stages = []
        for stage in self.stages:
            lengths = {n: share for n, share in stage.lengths.items() if not longest or n <= longest}
            if lengths:
                stages.append(replace(stage, lengths=lengths, tokens=tokens or stage.tokens))
        if not stages:
            raise ValueError(f"no stage has samples of {longest} tokens or less: raise --longest")
        return replace(self, stages=stages)


FINAL_LR = 0.02  # of the peak

CURRICULA = {
    "start": Curriculum(
        stages=[
            Stage(0.09, {512: 100}, tokens=65_536),
            Stage(0.24, {2048: 100}, tokens=98_304),
            Stage(0.58, {8192: 100}),
            Stage(1.0, {32_768: 100}),
        ],
        short=START,
        long=START,
        long_from=0,
        peak_lr=2e-3,
        warmup_steps=100,
        decay_from=0.35,
        full_length_share=0.6,
        plain_positions_share=0.4,
    ),
    # A step of one long sample takes many times as long as one of short samples: by time, the last
    # stage is mostly 131,072 tokens. The first stage is shorter than it looks, as it begins by compiling.
    "exact": Curriculum(
        stages=[
            Stage(0.21, {1024: 100}),
            Stage(0.42, {1024: 20, 4096: 80}),
            Stage(0.59, {1024: 10, 4096: 20, 16_384: 70}),
            Stage(0.77, {1024: 10, 4096: 15, 16_384: 15, 32_768: 25, 65_536: 35}),
            Stage(1.0, {1024: 10, 4096: 20, 16_384: 20, 65_536: 20, 131_072: 30}),
        ],
        short=EXACT_SHORT,
        long=EXACT_LONG,
        long_from=8192,
        peak_lr=1e-3,
        warmup_steps=50,
        decay_from=0.3,
        full_length_share=0.85,
        plain_positions_share=0.5,
    ),
}
TINY = replace(
    CURRICULA["start"],
    stages=[Stage(0.6, {128: 100}, tokens=1024), Stage(1.0, {256: 100}, tokens=1024)],
)
