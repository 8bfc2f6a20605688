"""Aggregation: find the most common words in a list or in a coded text (RULER's `cwe` and `fwe`)."""

from random import Random

from data.conversation import Conversation, Segment
from data.prose import Prose
from data.vocabulary import WORDS, coded_word

COMMON_CONTEXT = (
    "Below is a numbered list of words. In these words, some appear more often than others."
    " Memorize the ones that appear most often.\n{text}\n"
)
COMMON_QUESTION = "Question: What are the 10 most common words in the above list?"
COMMON_PREFIX = " Answer: The top 10 words that appear most often in the list are:"
COMMON = 10
COMMON_ENTRY_CHARS = 12  # a numbered word, on average

FREQUENT_CONTEXT = (
    "Read the following coded text and track the frequency of each coded word."
    " Find the three most frequently appeared coded words. {text}\n"
)
FREQUENT_QUESTION = (
    "Question: Do not provide any explanation. Please ignore the dots '....'."
    " What are the three most frequently appeared words in the above coded text?"
)
FREQUENT_PREFIX = " Answer: According to the coded text above, the three most frequently appeared words are:"
DOTS = "..."  # stands for the most frequent word, which does not count
CODED_WORD_CHARS = 7


def common_words_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """Ten words appear more often than all others. The answer lists them as they first appear."""
    common_count, other_count = rng.choice([(6, 1), (10, 3), (15, 2), (30, 3)])
    kinds, other_count = _list_size(n_chars / COMMON_ENTRY_CHARS, common_count, other_count)
    words = rng.sample(WORDS, kinds)
    entries = words[:COMMON] * common_count + words[COMMON:] * other_count
    rng.shuffle(entries)

    conversation = Conversation(rng)
    conversation.context(COMMON_CONTEXT.format(text=numbered(entries)))
    answer = sorted(words[:COMMON], key=entries.index)
    conversation.ask(COMMON_QUESTION, COMMON_PREFIX, " " + numbered(answer))
    return conversation.segments


def _list_size(entries: float, common_count: int, other_count: int) -> tuple[int, int]:
    """How many different words fill the list, and how often each uncommon one appears."""
    left = entries - COMMON * common_count  # entries for the uncommon words
    if left <= 4 * other_count:
        return COMMON + 4, other_count
    kinds = max(COMMON + 4, COMMON + int(left) // other_count)
    if kinds >= len(WORDS):  # more room than words: repeat the uncommon ones more
        kinds = len(WORDS) - 1
        other_count = max(1, int(left / (kinds - COMMON)))
    return kinds, other_count


def numbered(words: list[str]) -> str:
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, start=1))


def frequent_words_sample(rng: Random, n_chars: int, prose: Prose) -> list[Segment]:
    """Coded words whose frequencies fall by a power law. The answer is ranks two to four."""
    total = max(40, n_chars // CODED_WORD_CHARS)
    kinds = max(10, total // 50 * 2 // 3 + 10)
    exponent = rng.choice([1.8, 2.0, 2.2])
    words = [coded_word(rng) for _ in range(kinds)]
    words[0] = DOTS
    zeta = sum(rank**-exponent for rank in range(1, 2000))
    text: list[str] = []
    for rank, word in enumerate(words, start=1):
        text += [word] * int(total * rank**-exponent / zeta)
    rng.shuffle(text)

    conversation = Conversation(rng)
    conversation.context(FREQUENT_CONTEXT.format(text=" ".join(text)))
    conversation.ask(FREQUENT_QUESTION, FREQUENT_PREFIX, " " + " ".join(words[1:4]))
    return conversation.segments
