"""Measure how often a model answers exactly right, with dense and with star attention.

    python evaluate.py ../models/nano --books books.json --lengths 4096,16384 --samples 20

The score is teacher-forced: an answer is right if every token of it, given those before, is the
most likely one. Greedy decoding would then produce just this answer. Samples are made from the
held-out books. The query is the last 64 tokens before the answer; what comes before is context.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer

from batches import encode as tokenize
from data import TASKS
from data.conversation import Segment
from data.niah import RETRIEVAL, needle_sample
from data.prose import Prose, load_books
from data.variable_tracking import chain_sample
from model import Model, load_exported
from star import Star, encode, predict

QUERY_TOKENS = 64
FRAME_TOKENS = 300  # left free for questions and answers

CHARS_PER_TOKEN = {"essay": 3.4, "needle": 1.75, "repeat": 3.6}

Generate = Callable[[Random, int, Prose], list[Segment]]


def tests() -> dict[str, tuple[Generate, float]]:
    """Each test's generator, and how many characters it needs for a token."""
    found: dict[str, tuple[Generate, float]] = {}
    for name, shape in RETRIEVAL.items():
        found[name] = (partial(needle_sample, shape=shape), CHARS_PER_TOKEN[shape.haystack])
    found["vt"] = (partial(chain_sample, chains=1, hops=4), TASKS["vt"].chars_per_token)
    for name in ["cwe", "fwe", "babi", "facts", "everyday"]:
        found[name] = (TASKS[name].generate, TASKS[name].chars_per_token)
    return found


def methods(length: int) -> dict[str, Star | None]:
    """Dense attention, and star attention with fewer, shorter or no anchors."""
    quarter, sixteenth = length // 4, length // 16
    stars = [Star(quarter, quarter), Star(quarter, sixteenth), Star(quarter, 0), Star(sixteenth, sixteenth)]
    return {"dense": None} | {f"{star.block}/{star.anchor}": star for star in stars}


def sample(
    tokenizer: Tokenizer, prose: Prose, test: tuple[Generate, float], length: int, number: int
) -> tuple[list[int], list[float]]:
    """One sample of about `length` tokens. The same number gives the same sample."""
    generate, chars_per_token = test
    rng = Random(99_991 * number + length)
    n_chars = (length - FRAME_TOKENS) * chars_per_token
    for _ in range(6):
        ids, weights = tokenize(tokenizer, generate(rng, int(n_chars), prose))
        if len(ids) <= length + 200:
            break
        n_chars *= 0.95 * length / len(ids)
    return ids, weights


def first_answer(ids: list[int], weights: list[float]) -> tuple[list[int], list[int]]:
    """The prompt up to the first answer, and this answer with its end token."""
    start = next(i for i, weight in enumerate(weights) if weight)
    end = next((i for i in range(start, len(ids)) if not weights[i]), len(ids))
    return ids[:start], ids[start:end]


def most_likely(model: Model, prompt: list[int], answer: list[int], star: Star | None) -> list[int]:
    """The most likely token in place of each of `answer`."""
    split = len(prompt) - min(QUERY_TOKENS, len(prompt))
    context, query = prompt[:split], prompt[split:]
    cache = encode(model, context, star)
    return predict(model, cache, len(context), query + answer[:-1])[-len(answer) :]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--books", type=Path, default=Path("books.json"))
    parser.add_argument("--lengths", default="4096", help="in tokens, separated by commas")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--dense", action="store_true", help="measure dense attention only")
    parser.add_argument("--show-wrong", action="store_true", help="print what became of wrong answers")
    parser.add_argument("--tasks", default=",".join(tests()), help="separated by commas")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_exported(args.model).to(device)
    if device == "cuda":
        model = model.bfloat16()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    prose = Prose(load_books(args.books)[1])
    for length in map(int, args.lengths.split(",")):
        compared = {"dense": None} if args.dense else methods(length)
        print(f"{length} tokens".ljust(14) + "".join(name.rjust(12) for name in compared), flush=True)
        for task in args.tasks.split(","):
            samples = [sample(tokenizer, prose, tests()[task], length, i) for i in range(args.samples)]
            row = task.ljust(14)
            for method, star in compared.items():
                right = 0
                for one in samples:
                    prompt, answer = first_answer(*one)
                    said = most_likely(model, prompt, answer, star)
                    right += said == answer
                    if args.show_wrong and said != answer:
                        texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids in (answer, said)]
                        print(f"{task}, {method}: {texts[0]!r} became {texts[1]!r}")
                row += f"{100 * right / args.samples:12.0f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
