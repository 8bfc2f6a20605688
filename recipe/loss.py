"""The training loss: answers count in full, the text around them a little."""

import torch.nn.functional as F
from torch import Tensor

from batches import ANSWER, CONTEXT
from model import Model

CONTEXT_SHARE = 0.3


def training_loss(model: Model, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The loss to minimise, the mean loss on answer tokens, and the share of them predicted right."""
    hidden, _ = model(batch["ids"], batch["positions"])
    logits = model.logits(hidden).float().flatten(0, 1)  # [batch * tokens, vocab]
    targets = batch["targets"].flatten()
    weights = batch["weights"].flatten()
    losses = F.cross_entropy(logits, targets, reduction="none")

    answer, context = weights == ANSWER, weights == CONTEXT
    answer_loss = _mean_over(losses, answer)
    accuracy = _mean_over((logits.argmax(-1) == targets).float(), answer)
    return answer_loss + CONTEXT_SHARE * _mean_over(losses, context), answer_loss, accuracy


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    # A product, not an index: the shape stays fixed for the compiler.
    return (values * mask).sum() / mask.sum().clamp(min=1)
