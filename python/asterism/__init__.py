"""asterism reads very long texts, 16K to 1M tokens, and answers questions about them, with Star
Attention (arXiv 2411.17116): a text is encoded once, in blocks behind a copy of the first one, and
answers attend exactly to everything.

    >>> import asterism
    >>> engine = asterism.Engine()                  # nano, the small model in the package
    >>> text = "It was a long night. " * 200 + "The access code for the Lisbon vault is 48213."
    >>> book = engine.encode(text, method="star:block=512:anchor=128")
    >>> answer = book.ask("What is the access code for the Lisbon vault?")
    >>> "48213" in str(answer)
    True

* `Engine`: a model. `Engine.encode` makes a `Context` of texts or files, `Engine.plan` says before
  what that takes.
* `Context`: an encoded text. `Context.ask`, `ask_many`, `edit`, `save`.
* `Answer`: its text, tokens, logits, timings and sources; pieces as they come with `stream=True`.
* `asterism.documents.read`: files and folders, PDF, EPUB, DOCX, HTML and text, as `Document`s.
* `asterism.errors`: one exception class for each kind of failure.
* `asterism.transformers`: the same method inside Hugging Face Transformers, for any of its models,
  without the engine.
"""

from . import errors
from .errors import AsterismError

try:
    from ._asterism import Answer, Context, Document, Engine, Plan, Source, __version__
except ModuleNotFoundError as _missing:
    # The folder of the sources, where asterism.transformers works without the engine.
    if _missing.name != "asterism._asterism":
        raise

    def __getattr__(name: str) -> object:
        if name in __all__:
            raise ImportError(
                f"asterism.{name} needs the engine, and these are sources ({__path__[0]}): pip "
                "install ./python in the repository, and run outside of that folder"
            )
        raise AttributeError(f"module 'asterism' has no attribute {name!r}")


__all__ = [
    "Answer",
    "AsterismError",
    "Context",
    "Document",
    "Engine",
    "Plan",
    "Source",
    "errors",
]
