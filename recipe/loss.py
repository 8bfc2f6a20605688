"""The training loss: answers count in full, the text around them a little."""

import torch
import torch.nn.functional as F
from torch import Tensor

from batches import ANSWER, CONTEXT, KINDS

CONTEXT_SHARE = 0.3


def token_loss(hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, kinds: Tensor):
    """From hidden states [tokens, hidden] to the loss to minimise, and loss and success of each token.

    `table` is the embedding [vocab, hidden]; `targets`, `weights` and `kinds` are [tokens].
    """
    logits = F.linear(hidden, table).float()  # [tokens, vocab]
    losses = F.cross_entropy(logits, targets, reduction="none")
    # Products, not indices: the shape stays fixed for the compiler.
    answer = weights * (kinds >= ANSWER)
    context = (kinds == CONTEXT).float()
    loss = _mean_over(losses, answer) + CONTEXT_SHARE * _mean_over(losses, context)
    return loss, losses.detach(), (logits.detach().argmax(-1) == targets).float()


def _mean_over(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def by_kind(losses: Tensor, right: Tensor, kinds: Tensor) -> Tensor:
    """Sums over the tokens of each kind [3, KINDS]: their number, losses, and how many are right."""
    values = torch.stack([torch.ones_like(losses), losses, right])  # [3, tokens]
    sums = torch.zeros(3, KINDS, device=losses.device)
    return sums.index_add_(1, kinds.long(), values)
