"""Check that training prompts are those of the benchmarks, by comparing with samples of the program.

    asterism eval generate ruler --model ../models/nano --tasks generated --template llama3 -o ref/llama3
    asterism eval generate babilong --model ../models/nano --tasks paper --template llama3 -o ref/llama3
    (the same with --template base -o ref/base)
    python check_prompts.py ref

What differs between samples by chance (words, numbers, names, stories, book text) is replaced by a
mark in both; what is left must be the same text. Where such a text begins and ends, the token ids
around it must be the same too.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from data import TASKS
from data.conversation import BASE, CHAT, Frame, Segment
from data.niah import RETRIEVAL, needle_sample
from data.prose import Prose, load_books
from data.vocabulary import NOISE

FRAMES = {"llama3": CHAT, "base": BASE}
MARK = "\x00"


def without_chance(task: str, text: str) -> str:
    """`text` with a mark for everything that is drawn."""
    if task.startswith("niah"):
        text = re.sub(r"(afterwards\.\n).*(\n)$", rf"\1{MARK}\2", text, flags=re.DOTALL)
        return re.sub(r"(number|uuid)(s?) for .*? mentioned", rf"\1\2 for {MARK} mentioned", text)
    if task == "vt":
        text = re.sub(r"VAR [A-Z]+ = (?:\d{5}|VAR [A-Z]+ )", MARK, text)
        text = re.sub(r"they are:  (?:[A-Z]{3} ?){5}", "they are:  names", text)
        text = re.sub(r"\d{5}", "12345", text)
        # A statement stands before any line, and there is any number of lines.
        return re.sub(rf"{MARK}(?:\n? {MARK})*", MARK, text.replace(NOISE, MARK))
    if task == "cwe":
        return re.sub(r"(?:\d+\. [^\s]+(?: [^\s\d]+)*? ?)+(?=\n|$)", MARK, text)
    if task == "fwe":
        return re.sub(r"(?:(?:[a-z]{6}|\.\.\.) ?)+\n$", MARK, text)
    return re.sub(r"(<context>\n).*(\n</context>)", rf"\1{MARK}\2", text, flags=re.DOTALL)


def query_without_chance(task: str, text: str) -> str:
    if task.startswith("qa"):
        return re.sub(r"Question: (?:Where|What|Who)[^?]*\?", "Question: ?", text)
    return without_chance(task, re.sub(r"value \d{5}", "value 12345", text))


def our_sample(task: str, frame: Frame, length: int, rng: Random, prose: Prose) -> list[Segment]:
    """A training sample of `task` in `frame`."""
    if task.startswith("niah"):
        shape = RETRIEVAL[task.removeprefix("niah_")]
        return needle_sample(rng, 3 * length, prose, shape, frame)
    name = task if task.startswith("qa") else f"ruler {task}"
    n_chars = int((length - TASKS[name].extra_tokens) * TASKS[name].chars_per_token)
    while True:
        sample = TASKS[name].generate(rng, n_chars, prose)
        if sample[0].text.startswith(CHAT.head[:17]) == (frame is CHAT):
            return sample


def edges(encode: Callable[[str], list[int]], task: str, text: str) -> list[list[int]]:
    """Token ids of the fixed text at both ends of a context."""
    fixed = without_chance(task, text).split(MARK)
    # The last token of what stands before a drawn text, and the first after it, may depend on it.
    ids = encode(text)
    head, tail = encode(fixed[0])[:-2], encode(fixed[-1])[1:]
    return [ids[: len(head)], head, ids[len(ids) - len(tail) :], tail]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("reference", type=Path, help="holds llama3/ and base/")
    parser.add_argument("--books", type=Path, default=Path("books.json"))
    parser.add_argument("--tokenizer", type=Path, default=Path("../models/nano/tokenizer.json"))
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    prose = Prose(load_books(args.books)[0])

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    compared = 0
    for name, frame in FRAMES.items():
        for file in sorted((args.reference / name).glob("*/*/validation.jsonl")):
            length, task = int(file.parts[-3]), file.parts[-2]
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
                theirs = json.loads(line)
                ours = our_sample(task, frame, length, Random(number), prose)
                context, query = theirs["input_context"], theirs["input_query"]
                pairs = {
                    "context": (without_chance(task, ours[0].text), without_chance(task, context)),
                    "query": (query_without_chance(task, ours[1].text), query_without_chance(task, query)),
                    "ids": (edges(encode, task, ours[0].text)[0::2], edges(encode, task, context)[0::2]),
                }
                for what, (our, their) in pairs.items():
                    if our != their:
                        both = f"ours:   {our!r}\ntheirs: {their!r}"
                        raise SystemExit(f"{file}:{number + 1}: {what} differs:\n{both}")
                compared += 1
    if not compared:
        parser.error(f"no samples under {args.reference}")
    print(f"{compared} samples have the same prompts and token ids")


if __name__ == "__main__":
    main()
