"""Train the tokenizer: byte-level BPE, 4,088 tokens and six special ones.

    python tokenizer.py --books books.json --out tokenizer.json

Text is cut into words as in Llama 3, but every digit is a token of its own, so that a number is
always tokenised the same way.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from data import TASKS, draw_task
from data.prose import Prose, load_books

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # English contractions
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"  # letters, with the space or sign before them
    r"|\p{N}"  # one digit
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"  # punctuation
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"  # whitespace
)
LEARNED = 4088
SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|pad|>",
]
CHARS_PER_BOOK = 900_000  # so that no book dominates
SAMPLES = 6000  # synthetic ones, so that the tasks' wording gets tokens too
SAMPLE_CHARS = 800


def corpus(books: dict[str, str], seed: int) -> Iterator[str]:
    """Book text and task samples, without the special tokens."""
    for text in books.values():
        yield text[:CHARS_PER_BOOK]
    prose, rng = Prose(books), Random(seed)
    for _ in range(SAMPLES):
        segments = TASKS[draw_task(rng)].generate(rng, SAMPLE_CHARS, prose)
        yield "".join(segment.text for segment in segments).replace("<|", "").replace("|>", "")


def train(texts: Iterator[str]) -> Tokenizer:
    """Learn the merges. Special tokens get the ids after the learned ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNED,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--books", type=Path, default=Path("books.json"))
    parser.add_argument("--out", type=Path, default=Path("tokenizer.json"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    books, _ = load_books(args.books)
    tokenizer = train(corpus(books, args.seed))
    tokenizer.save(str(args.out))
    example = "One of the special magic numbers for brave-otter is: 1234567."
    print(f"{tokenizer.get_vocab_size():,} entries; for example", tokenizer.encode(example).tokens)


if __name__ == "__main__":
    main()
