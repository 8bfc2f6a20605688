"""Train the model.

    python train.py --books books.json --tokenizer tokenizer.json --out run

Training runs through four stages of growing length within a budget, by default 900 seconds. The
budget may also be given in steps; two runs with equal seeds then see the same batches. The state
is saved every 500 steps and after each stage; with --resume, training goes on from there.
`--tiny` trains a much smaller model on short samples, on a CPU, to see that everything works.
"""

import argparse
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from batches import Samples, load
from data.prose import Prose, load_books
from loss import training_loss
from model import TINY, Config, Model
from muon import Muon

PEAK_LR = 2e-3
WARMUP_STEPS = 100
DECAY_FROM = 0.35  # share of the budget after which the learning rate falls
FINAL_LR = 0.02  # of the peak
SAVE_EVERY = 500
REPORT_EVERY = 50


@dataclass(frozen=True)
class Stage:
    length: int  # tokens
    batch: int  # samples
    until: float  # share of the budget at which the stage ends


CURRICULUM = [
    Stage(length=512, batch=128, until=0.09),
    Stage(length=2048, batch=48, until=0.24),
    Stage(length=8192, batch=16, until=0.58),
    Stage(length=32_768, batch=4, until=1.0),
]
TINY_CURRICULUM = [Stage(length=128, batch=8, until=0.6), Stage(length=256, batch=4, until=1.0)]
TINY_STEPS = 300


@dataclass
class Progress:
    """Where training stands. Saved with the weights."""

    stage: int = 0
    steps_in_stage: int = 0
    steps: int = 0
    seconds: float = 0.0

    def share(self, args: argparse.Namespace) -> float:
        """How much of the budget is used, from 0 to 1."""
        return self.steps / args.steps if args.steps else self.seconds / args.seconds


def learning_rate(steps: int, share: float) -> float:
    """Warm up, stay, then fall linearly to almost nothing."""
    warmup = min(1.0, (steps + 1) / WARMUP_STEPS)
    decay = min(1.0, FINAL_LR + (1 - FINAL_LR) * (1 - share) / (1 - DECAY_FROM))
    return PEAK_LR * warmup * decay


def make_optimizers(model: nn.Module, device: str) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        in_layer = parameter.dim() == 2 and not name.startswith("embed_tokens")
        (matrices if in_layer else others).append(parameter)
    adam = torch.optim.AdamW(others, lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.0, fused=device == "cuda")
    return [Muon(matrices, lr=PEAK_LR), adam]


class Trainer:
    """Model, optimizers and progress, and how they are saved."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.curriculum = TINY_CURRICULUM if args.tiny else CURRICULUM
        self.file = args.out / "checkpoint.pt"
        self.progress = Progress()
        torch.manual_seed(args.seed)
        self.model = Model(TINY if args.tiny else Config()).to(self.device)
        self.optimizers = make_optimizers(self.model, self.device)
        # One compilation for each stage, as each has its own shape.
        self.loss = torch.compile(training_loss, dynamic=False) if self.device == "cuda" else training_loss

    def save(self) -> None:
        state = {
            "config": asdict(self.model.config),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
        }
        self.args.out.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_suffix(".tmp")
        torch.save(state, unfinished)
        unfinished.replace(self.file)  # an interrupted run leaves the last whole file

    def restore(self) -> None:
        state = torch.load(self.file, map_location=self.device)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        print(f"resumed after {self.progress.steps} steps", flush=True)

    def step(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One update; returns the loss and the accuracy on answer tokens."""
        lr = learning_rate(self.progress.steps, self.progress.share(self.args))
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss, answer_loss, accuracy = self.loss(self.model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        return answer_loss.detach(), accuracy.detach()

    def run_stage(self, stage: Stage, samples: Samples) -> None:
        progress = self.progress
        recent: list[tuple[Tensor, Tensor]] = []
        batches = load(samples, stage.batch, progress.steps_in_stage, self.args.workers)
        started = time.monotonic() - progress.seconds
        while progress.share(self.args) < stage.until:
            recent.append(self.step(next(batches)))
            progress.steps += 1
            progress.steps_in_stage += 1
            progress.seconds = time.monotonic() - started
            if progress.steps % REPORT_EVERY == 0:
                self.report(stage, recent)
                recent.clear()
            if progress.steps % SAVE_EVERY == 0:
                self.save()

    def report(self, stage: Stage, recent: list[tuple[Tensor, Tensor]]) -> None:
        answer_loss = torch.stack([loss for loss, _ in recent]).mean()
        accuracy = torch.stack([accuracy for _, accuracy in recent]).mean()
        print(
            f"length {stage.length:6}  step {self.progress.steps:6}  {self.progress.seconds:5.0f} s"
            f"  answer loss {answer_loss:6.3f}  answer accuracy {accuracy:.3f}",
            flush=True,
        )

    def run(self, tokenizer: Tokenizer, prose: Prose) -> None:
        for number in range(self.progress.stage, len(self.curriculum)):
            stage = self.curriculum[number]
            max_positions = self.model.config.max_positions
            samples = Samples(tokenizer, prose, stage.length, max_positions, self.args.seed)
            self.run_stage(stage, samples)
            self.progress.stage, self.progress.steps_in_stage = number + 1, 0
            self.save()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--books", type=Path, default=Path("books.json"))
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer.json"))
    parser.add_argument("--out", type=Path, default=Path("run"))
    parser.add_argument("--seconds", type=float, default=900.0, help="budget in time")
    parser.add_argument("--steps", type=int, help="budget in steps, instead of time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--tiny", action="store_true", help=f"a small model, {TINY_STEPS} steps on a CPU")
    args = parser.parse_args()
    if args.tiny and not args.steps:
        args.steps = TINY_STEPS
    if args.resume != (args.out / "checkpoint.pt").exists():
        parser.error(f"--resume needs a checkpoint in {args.out}, and a new run needs a folder without one")
    return args


def main() -> None:
    args = parse_args()
    books, _ = load_books(args.books)
    trainer = Trainer(args)
    if args.resume:
        trainer.restore()
    size = sum(parameter.numel() for parameter in trainer.model.parameters())
    print(f"{size / 1e6:.1f}M parameters on {trainer.device}", flush=True)
    trainer.run(Tokenizer.from_file(str(args.tokenizer)), Prose(books))


if __name__ == "__main__":
    main()
