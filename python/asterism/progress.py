"""Who hears how far encoding has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def reporter(progress: Any) -> Callable[[float], None] | None:
    """What is called with the share that is done, from 0 to 1: `progress` itself if it is a
    function; a bar of tqdm that is moved on, if it is one, or a new one for `True`."""
    if progress is None or progress is False:
        return None
    if progress is True:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True shows a bar of tqdm: pip install tqdm") from error
        progress = tqdm(total=1.0, unit="", bar_format="encode {l_bar}{bar}| {elapsed}<{remaining}")
    if hasattr(progress, "update") and hasattr(progress, "total"):
        return _Bar(progress)
    if callable(progress):
        return progress
    raise TypeError(f"progress: expected a function, a bar of tqdm or True, not {progress!r}")


class _Bar:
    """A bar of tqdm as a function of the share."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.done = bar, 0.0

    def __call__(self, share: float) -> None:
        share = min(share, 1.0)
        self.bar.update((share - self.done) * (self.bar.total or 1.0))
        self.done = share
        if share >= 1.0:
            self.bar.close()
