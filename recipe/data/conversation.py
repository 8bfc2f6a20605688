"""A sample under construction: a context, then questions and answers about it.

A sample is a list of segments. Each is tokenised by itself, where an engine does so too: the
context, the question with the opening of its answer, the answer. The weight of a segment says how
much the model is trained to give its tokens as answers.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

BEGIN = "<|begin_of_text|>"
END_TEXT = "<|end_of_text|>"
END_TURN = "<|eot_id|>"
HEADER = "<|start_header_id|>{role}<|end_header_id|>\n\n"

SYSTEM = HEADER.format(role="system") + "You are a helpful assistant." + END_TURN
USER = HEADER.format(role="user")
ASSISTANT = HEADER.format(role="assistant")

CHAT_SHARE = 0.7
# In a chat, the start of the answer is part of the prompt this often, else it must be produced.
GIVEN_PREFIX_SHARE = 0.75


class Segment(NamedTuple):
    text: str
    weight: float  # 0 for what is only read, 1 for answers, more for what is hard in them


@dataclass(frozen=True)
class Frame:
    """What stands around the texts of a sample."""

    head: str  # before the context
    tail: str  # between question and answer
    again: str  # before a further question
    end: str  # after an answer


CHAT = Frame(BEGIN + SYSTEM + USER, END_TURN + ASSISTANT, USER, END_TURN)
PLAIN = Frame(BEGIN, "", "\n", END_TEXT)
# As benchmarks ask base models: without even a token for the beginning.
BASE = Frame("", "", "\n", END_TEXT)


class Conversation:
    """Builds the segments of one sample: `context` once, then `ask` as often as wanted.

    Without a `frame`, seven samples in ten are chats in the format of the model's chat template,
    and the others plain text.
    """

    def __init__(self, rng: Random, frame: Frame | None = None) -> None:
        self.rng = rng
        self.exact = frame is not None
        self.frame = frame or (CHAT if rng.random() < CHAT_SHARE else PLAIN)
        self.segments: list[Segment] = []
        self.questions = 0

    @property
    def chat(self) -> bool:
        return self.frame.end == END_TURN

    def context(self, text: str) -> None:
        """Open the conversation with the long text."""
        self.segments.append(Segment(self.frame.head + text, 0))

    def ask(self, question: str, prefix: str, *answer: str | Segment) -> None:
        """Add a question. `prefix` is the fixed beginning of its answer and may be empty.

        The first question continues the user's turn that the context began.
        """
        opening = self.frame.again if self.questions else ""
        prompt = opening + question + self.frame.tail
        if self.exact or not self.chat or (prefix and self.rng.random() < GIVEN_PREFIX_SHARE):
            prompt, prefix = prompt + prefix, ""
        self.segments.append(Segment(prompt, 0))
        parts = [part if isinstance(part, Segment) else Segment(part, 1) for part in answer]
        parts[0] = Segment(prefix + parts[0].text, parts[0].weight)
        self.segments += [*parts, Segment(self.frame.end, 1)]
        self.questions += 1
