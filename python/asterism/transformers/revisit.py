"""Which tokens of a context are computed anew for a question: those it looks at.

The same rule as the engine's: the largest weight within nine tokens, averaged over nine tokens;
the first block is exact already.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .refusals import StarError

# Tokens of a neighbourhood.
AROUND = 9
# Tokens beyond which more changed no result that was measured.
ENOUGH = 2048

Revisit = int | str | None


def budget(revisit: Revisit, tokens: int) -> int:
    """How many of `tokens` are to be computed anew: a number, a share (`"5%"`), `"auto"` (a fifth,
    at most 2,048) or `None`."""
    if revisit is None:
        return 0
    if revisit == "auto":
        return min(-(-tokens // 5), ENOUGH)
    if isinstance(revisit, int) and not isinstance(revisit, bool) and revisit >= 0:
        return min(revisit, tokens)
    if isinstance(revisit, str) and revisit.endswith("%"):
        try:
            hundredths = round(float(revisit[:-1]) * 100)
        except ValueError:
            hundredths = -1
        if 0 <= hundredths <= 10_000:
            return -(-tokens * hundredths // 10_000)
    raise StarError(f"revisit={revisit!r}: give a number of tokens, a share ('5%'), 'auto' or None")


def choose(scores: torch.Tensor, count: int, exact: int) -> torch.Tensor:
    """The indices, rising, of the `count` tokens behind the first `exact` whose neighbourhoods have
    the largest `scores [tokens]`; the first of equals."""
    near = F.max_pool1d(scores[None, None].float(), AROUND, 1, AROUND // 2)
    near = F.avg_pool1d(near, AROUND, 1, AROUND // 2, count_include_pad=False)[0, 0]
    order = torch.sort(near[exact:], descending=True, stable=True).indices
    return (order[:count] + exact).sort().values
