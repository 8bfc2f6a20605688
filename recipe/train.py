"""Train the model, in two parts.

    python train.py --out run                                                    # part 1: from nothing
    python train.py --start part1 --curriculum exact --seconds 600 --out run2    # goes on from it

A run has a budget, by default 900 seconds. It may also be given in steps; two runs with equal seeds
then see the same batches. The state is saved every half minute; with --resume, training goes on from
there, and the seconds already used count. `--tiny` trains a much smaller model on short samples, on
a CPU, to see that everything works.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from batches import ANSWER, FIRST_ANSWER, Sample, Samples, load
from curriculum import CURRICULA, TINY, Curriculum
from data import FAMILIES
from data.prose import Prose, load_books
from loss import by_kind, token_loss
from model import TINY as TINY_MODEL
from model import Config, Model, deepened, load_exported
from muon import Muon

SAVE_SECONDS = 30.0
REPORT_EVERY = 50
TINY_STEPS = 300


@dataclass
class Progress:
    """Where training stands. Saved with the weights."""

    steps: int = 0
    seconds: float = 0.0


def make_optimizers(model: nn.Module, device: str, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        in_layer = parameter.dim() == 2 and not name.startswith("embed_tokens")
        (matrices if in_layer else others).append(parameter)
    adam = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=device == "cuda")
    return [Muon(matrices, lr=lr), adam]


def starting_model(args: argparse.Namespace) -> Model:
    """The model before the first step: random weights, or those of --start."""
    torch.manual_seed(args.seed)
    if args.start:
        model = load_exported(args.start)
        return deepened(model, args.layers or model.config.layers).train()
    return Model(TINY_MODEL if args.tiny else Config(layers=args.layers or Config.layers))


class Trainer:
    """Model, optimizers and progress, and how they are saved."""

    def __init__(self, args: argparse.Namespace, curriculum: Curriculum, saved: dict | None) -> None:
        self.args, self.curriculum = args, curriculum
        self.started = time.monotonic()  # compiling counts
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.file = args.out / "checkpoint.pt"
        self.progress = Progress(**saved["progress"]) if saved else Progress()
        self.model = Model(Config(**saved["config"])) if saved else starting_model(args)
        if saved:
            self.model.load_state_dict(saved["model"])
        self.model.to(self.device)
        self.optimizers = make_optimizers(self.model, self.device, curriculum.peak_lr)
        for optimizer, state in zip(self.optimizers, saved["optimizers"] if saved else [], strict=False):
            optimizer.load_state_dict(state)
        self.token_loss = token_loss
        if self.device == "cuda" and not args.eager:
            self.model.compile_parts()
            self.token_loss = torch.compile(token_loss, dynamic=False, fullgraph=True)

    def share(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        return used(self.progress, self.args)

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

    def to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def backward(self, sample: Sample) -> Tensor:
        """Adds the gradients of a batch; returns the sums of `by_kind`."""
        batch = {name: self.to_device(array) for name, array in sample.items()}
        ids = batch["ids"].long()  # [batch, tokens + 1]
        kinds, weights = batch["kinds"].flatten(), batch["weights"].flatten()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            hidden, _ = self.model(ids[:, :-1], batch["positions"])
            table = self.model.embed_tokens.weight
            loss, losses, right = self.token_loss(
                hidden.flatten(0, 1), table, ids[:, 1:].flatten(), weights, kinds
            )
        loss.backward()
        return by_kind(losses, right, kinds)

    def step(self, sample: Sample) -> Tensor:
        """One update; returns the sums of `by_kind`."""
        lr = self.curriculum.learning_rate(self.progress.steps, self.share())
        sums = self.backward(sample)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        return sums

    def rehearse(self) -> None:
        """A batch of noise of every length, so that whatever fails does so now, and the code is compiled."""
        for tokens, length in self.curriculum.shapes():
            samples = max(1, tokens // length)
            noise = {
                "ids": np.ones((samples, length + 1), np.int32),
                "positions": np.tile(np.arange(length, dtype=np.int32), (samples, 1)),
                "weights": np.ones((samples, length), np.float32),
                "kinds": np.full((samples, length), ANSWER, np.uint8),
            }
            for _ in range(2):  # the first one compiles
                started = time.monotonic()
                self.backward(noise).sum().item()  # waits for the GPU
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            memory = torch.cuda.max_memory_allocated() / 1e9 if self.device == "cuda" else 0.0
            print(
                f"{samples} x {length} tokens: {time.monotonic() - started:.3f} s without update,"
                f" {memory:.0f} GB at most, {time.monotonic() - self.started:.0f} s since the start",
                flush=True,
            )

    def run(self, batches: Iterator[Sample]) -> None:
        progress = self.progress
        last_report = last_save = time.monotonic()
        before, waited, tokens, seen = progress.seconds, 0.0, 0, {}
        sums: Tensor | None = None
        while self.share() < 1:
            asked = time.monotonic()
            sample = next(batches)
            waited += time.monotonic() - asked
            length = sample["kinds"].shape[1]
            seen[length] = seen.get(length, 0) + 1
            tokens += sample["kinds"].size
            new = self.step(sample)
            sums = new if sums is None else sums + new
            progress.steps += 1
            if progress.steps % REPORT_EVERY == 0 or progress.steps in (1, 10):
                values = sums.cpu()  # waits for the GPU
                now = time.monotonic()
                self.report(values, seen, tokens / (now - last_report), waited / (now - last_report))
                sums, waited, tokens, seen, last_report = None, 0.0, 0, {}, now
            progress.seconds = before + time.monotonic() - self.started
            if time.monotonic() - last_save > SAVE_SECONDS:
                self.save()
                last_save = time.monotonic()
        self.save()

    def report(self, sums: Tensor, seen: dict[int, int], speed: float, waited: float) -> None:
        """One line: the answers of each task first, as loss/accuracy of their tokens."""
        parts = []
        for family, (count, loss, right) in zip(FAMILIES, sums[:, FIRST_ANSWER:].T.tolist(), strict=True):
            if count:
                parts.append(f"{family} {loss / count:.2f}/{right / count:.2f}")
        lengths = " ".join(f"{n}x{length}" for length, n in sorted(seen.items()))
        print(
            f"step {self.progress.steps} {self.progress.seconds:.0f}s [{lengths}]"
            f" {speed / 1000:.0f}K tok/s wait {waited:.0%} | " + " ".join(parts),
            flush=True,
        )


def used(progress: Progress, args: argparse.Namespace) -> float:
    return progress.steps / args.steps if args.steps else progress.seconds / args.seconds


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--books", type=Path, default=Path("books.json"))
    parser.add_argument("--tokenizer", type=Path, help="default: that of --start, else tokenizer.json")
    parser.add_argument("--out", type=Path, default=Path("run"))
    parser.add_argument("--curriculum", choices=CURRICULA, default="start")
    parser.add_argument("--start", type=Path, help="go on from this model in Hugging Face layout")
    parser.add_argument("--layers", type=int, help="of the model; more than --start has are added to it")
    parser.add_argument("--seconds", type=float, default=900.0, help="budget in time")
    parser.add_argument("--steps", type=int, help="budget in steps, instead of time")
    parser.add_argument("--longest", type=int, help="leave out samples of more tokens")
    parser.add_argument("--tokens", type=int, help="tokens of a step, instead of the curriculum's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--eager", action="store_true", help="do not compile, on a GPU")
    parser.add_argument("--tiny", action="store_true", help=f"a small model, {TINY_STEPS} steps on a CPU")
    args = parser.parse_args()
    if args.tiny and not args.steps:
        args.steps = TINY_STEPS
    if args.tokenizer is None:
        args.tokenizer = args.start / "tokenizer.json" if args.start else Path("tokenizer.json")
    if args.resume != (args.out / "checkpoint.pt").exists():
        parser.error(f"--resume needs a checkpoint in {args.out}, and a new run needs a folder without one")
    return args


def main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # worker processes have a core each
    args = parse_args()
    curriculum = TINY if args.tiny else CURRICULA[args.curriculum].scaled(args.longest, args.tokens)
    books, _ = load_books(args.books)
    saved = torch.load(args.out / "checkpoint.pt", map_location="cpu") if args.resume else None
    progress = Progress(**saved["progress"]) if saved else Progress()

    # The workers start before the GPU is touched; they read the progress of `trainer` once it exists.
    trainer: Trainer | None = None

    def share_at(number: int) -> float:
        if args.steps:
            return number / args.steps
        return used(trainer.progress if trainer else progress, args)

    samples = Samples(
        Tokenizer.from_file(str(args.tokenizer)), Prose(books), curriculum, Config.max_positions, args.seed
    )
    batches = load(samples, progress.steps, share_at, args.workers)
    trainer = Trainer(args, curriculum, saved)
    size = sum(parameter.numel() for parameter in trainer.model.parameters())
    print(f"{size / 1e6:.1f}M parameters on {trainer.device}, step {progress.steps}", flush=True)
    # Kernels that need memory of the order of the tokens, not of their square: an error beats a slow run.
    # The first one that works is taken. cuDNN's is new enough for Hopper: a step of one sample of
    # 131,072 tokens takes 0.91 s with it, 1.31 s with the second.
    kernels = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel(kernels, set_priority=True) if trainer.device == "cuda" else nullcontext():
        if trainer.device == "cuda":
            trainer.rehearse()
        trainer.run(batches)


if __name__ == "__main__":
    main()
