"""The engine. Use it from the package `asterism`; stubtest compares this file with it."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypedDict, final, type_check_only

import numpy as np
import numpy.typing as npt

from .documents import Texts

__all__ = [
    "Answer",
    "Context",
    "Document",
    "Engine",
    "Plan",
    "Source",
    "CODES",
    "__version__",
    "read_files",
    "read_for_parent",
]

__version__: Final[str]
CODES: Final[Sequence[str]]

_Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]
_Progress = Callable[[float], object] | bool | Any

@type_check_only
class AnswerTimings(TypedDict):
    question_tokens: int
    question_s: float
    decode_s: float
    tokens_per_s: float
    revisited_tokens: int
    revisit_s: float

@type_check_only
class ContextTimings(TypedDict):
    encode_s: float
    kv_bytes: int
    tokens_per_s: float
    is_loaded: bool
    density: float | None
    kept_mass: float | None

def read_files(
    paths: Sequence[str | os.PathLike[str]],
    include: Sequence[str],
    exclude: Sequence[str],
    encoding: Sequence[str],
    max_file: int,
    seconds: int,
) -> tuple[list[tuple[int, Document]], list[tuple[str, str, str]]]: ...
def read_for_parent() -> None: ...
@final
class Document:
    def __new__(cls, name: str, text: str) -> Document: ...
    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def kind(self) -> Literal["text", "html", "epub", "docx", "pdf"]: ...
    @property
    def encoding(self) -> str | None: ...
    @property
    def notes(self) -> list[str]: ...
    def cite(self, start: int, end: int) -> str: ...
    def __len__(self) -> int: ...

@final
class Engine:
    def __new__(
        cls,
        model: str = "nano",
        *,
        device: str = "auto",
        threads: int | None = None,
        dtype: Literal["bf16", "f32"] = "bf16",
        offline: bool = False,
    ) -> Engine: ...
    def encode(
        self,
        texts: Texts | _Tokens,
        *,
        method: str = "star",
        name: str | None = None,
        hosts: int = 1,
        system: str | None = None,
        slack: int = 0,
        own_blocks: bool = False,
        question_tokens: int = 256,
        answer_tokens: int = 128,
        progress: _Progress | None = None,
    ) -> Context: ...
    def plan(self, texts: Texts | int, *, method: str = "star", hosts: int = 1) -> Plan: ...
    def load(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        progress: _Progress | None = None,
    ) -> Context: ...
    def tokenize(self, text: str) -> npt.NDArray[np.uint32]: ...
    def detokenize(self, tokens: _Tokens) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def warnings(self) -> list[str]: ...

@final
class Context:
    def ask(
        self,
        question: str | _Tokens,
        *,
        stream: bool = False,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = ...,
        revisit: int | str | None = None,
        sources: bool = False,
        logits: bool = False,
    ) -> Answer: ...
    def ask_many(
        self,
        questions: Sequence[str | _Tokens],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = ...,
        revisit: int | str | None = None,
        sources: bool = False,
        logits: bool = False,
    ) -> list[Answer]: ...
    def edit(
        self, texts: Texts, *, name: str | None = None, progress: _Progress | None = None
    ) -> Context: ...
    def save(self, folder: str | os.PathLike[str]) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def tokens(self) -> npt.NDArray[np.uint32]: ...
    @property
    def documents(self) -> list[str]: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def changes(self) -> list[tuple[int, int, str]]: ...
    @property
    def timings(self) -> ContextTimings: ...
    def __len__(self) -> int: ...

@final
class Answer:
    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def stop(self) -> None: ...
    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> npt.NDArray[np.uint32]: ...
    @property
    def logits(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def finish(self) -> Literal["eos", "stop", "length"]: ...
    @property
    def timings(self) -> AnswerTimings: ...
    @property
    def sources(self) -> list[Source]: ...

@final
class Plan:
    @property
    def method(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def anchor(self) -> int: ...
    @property
    def blocks(self) -> list[tuple[int, int]]: ...
    @property
    def hosts(self) -> int: ...
    @property
    def flops(self) -> int: ...
    @property
    def kv_bytes(self) -> int: ...
    @property
    def memory_bytes(self) -> int | None: ...

@final
class Source:
    @property
    def document(self) -> str | None: ...
    @property
    def place(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def span(self) -> tuple[int, int]: ...
    @property
    def block(self) -> tuple[int, int]: ...
    @property
    def share(self) -> float: ...
