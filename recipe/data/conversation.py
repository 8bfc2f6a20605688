"""A sample under construction: a context, then questions and answers about it.

Seven samples in ten are chats in the format of the model's chat template. The others are plain
text, as a base model would see it. A sample is a list of segments. Each is tokenised by itself,
and the flag says which tokens the model is trained to give as answers.
"""

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
    is_answer: bool


class Conversation:
    """Builds the segments of one sample: `context` once, then `ask` as often as wanted."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.chat = rng.random() < CHAT_SHARE
        self.segments: list[Segment] = []
        self.questions = 0

    def context(self, text: str) -> None:
        """Open the conversation with the long text."""
        head = BEGIN + SYSTEM + USER if self.chat else BEGIN
        self._add(head + text, is_answer=False)

    def ask(self, question: str, prefix: str, answer: str) -> None:
        """Add a question. `prefix` is the fixed beginning of its answer and may be empty."""
        if self.chat:
            self._ask_in_chat(question, prefix, answer)
        else:
            separator = "\n" if self.questions else ""
            self._add(separator + question + prefix, is_answer=False)
            self._add(answer, is_answer=True)
            self._add(END_TEXT, is_answer=True)
        self.questions += 1

    def _ask_in_chat(self, question: str, prefix: str, answer: str) -> None:
        # The first question continues the user turn that the context began.
        opening = USER if self.questions else ""
        prompt = opening + question + END_TURN + ASSISTANT
        if prefix and self.rng.random() < GIVEN_PREFIX_SHARE:
            prompt, prefix = prompt + prefix, ""
        self._add(prompt, is_answer=False)
        self._add(prefix + answer, is_answer=True)
        self._add(END_TURN, is_answer=True)

    def _add(self, text: str, is_answer: bool) -> None:
        self.segments.append(Segment(text, is_answer))
