"""Muon: momentum whose update is made orthogonal before it is applied (Jordan et al., 2024).

For weight matrices only. The update is scaled so that its size resembles AdamW's, which lets
both optimizers share one learning rate (Moonshot AI, arXiv 2502.16982).
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

# Newton-Schulz coefficients, one triple a step
COEFFICIENTS = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly the closest orthogonal matrices: [n, rows, columns] -> same.

    In bfloat16 on a GPU, which is exact enough; a CPU multiplies small float32 matrices faster.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT  # [n, short side, short side]
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are updated together, in one batch."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        gradients = torch.stack([parameter.grad.float() for parameter in parameters])  # [n, rows, columns]
        average = torch.stack([self._average(parameter) for parameter in parameters])
        average.mul_(momentum).add_(gradients)
        updates = orthogonalize(gradients + momentum * average).float()  # Nesterov
        updates *= 0.2 * math.sqrt(max(parameters[0].shape))
        for parameter, new_average, update in zip(parameters, average, updates, strict=True):
            self.state[parameter]["average"] = new_average.clone()
            parameter.mul_(1 - lr * weight_decay).add_(update, alpha=-lr)

    def _average(self, parameter: Tensor) -> Tensor:
        """Running sum of gradients, zero at first."""
        return self.state[parameter].get("average", torch.zeros_like(parameter))
