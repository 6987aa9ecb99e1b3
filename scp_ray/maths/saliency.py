"""How much the loss curves along each weight: the diagonal Gauss-Newton matrix, from per-sample gradients.

For networks that are piecewise linear in every single weight (ReLU, max-pool, batch norm in eval mode) it is the
diagonal of the Hessian almost everywhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from scp_ray.errors import ScoreError
from scp_ray.maths.per_sample import add_squares_

Draws = int | Literal["exact", "fisher"]
WeightedLogits = Sequence[tuple[float, Tensor]]


def add_curvature_(
    sums: dict[str, Tensor],
    module: nn.Module,
    logits_of: Callable[[Tensor], WeightedLogits],
    image: Tensor,
    label: Tensor,
    *,
    draws: Draws = 1,
    generator: torch.Generator | None = None,
) -> None:
    """Add a batch's sum over samples of the diagonal of sum_e tau_e J_e' (diag(p_e) - p_e p_e') J_e to ``sums``.

    J_e is the Jacobian of exit e's logits in the *effective* weights (masks applied) of every nn.Conv2d and nn.Linear
    that the logits depend on the image through. Parameters need no gradient, and theirs stays untouched. The mode is
    the caller's business (eval: samples must not influence each other).

    Args:
        sums: by module name within ``module``, in the weights' shapes; entries are made when first needed. At least
            float32.
        logits_of: weights tau_e >= 0 and logits (n, K_e) of the exits; must call ``module`` or parts of it on all n
            images at a time.
        image: (n, ...).
        label: (n,), read by "fisher" alone.
        draws: how many labels are drawn from softmax(logits), per sample and exit (unbiased); "exact": all K classes
            in turn, weighted; "fisher": the true label instead of a drawn one (empirical Fisher: biased).
        generator: a CPU generator for the draws; needed where ``draws`` is a number.

    Raises ScoreError where logits are not finite, RuntimeError where a layer is not run on all images at once.
    """
    image = image.detach().requires_grad_()
    with torch.enable_grad(), _Squares(sums, module, len(image)) as squares:
        weighted = logits_of(image)
        if not all(bool(logits.isfinite().all()) for _, logits in weighted):
            raise ScoreError(
                "the network's logits are NaN or infinite, so its weights have no saliency; train it anew."
            )
        for outputs, cotangents in _passes(weighted, label, draws, generator):
            # asked for the image's gradient alone, autograd spares itself those of the weights
            torch.autograd.grad(outputs, image, cotangents, retain_graph=True)
            squares.flush_()


def _passes(
    weighted: WeightedLogits, label: Tensor, draws: Draws, generator: torch.Generator | None
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Outputs with their cotangents, one pair for each backward pass; the squares of all passes add up."""
    logits = [output for _, output in weighted]
    taus = [tau for tau, _ in weighted]
    with torch.no_grad():
        shares = [output.softmax(1) for output in logits]
    if isinstance(draws, int):
        if generator is None:
            raise ValueError("labels are drawn, so a generator is needed.")
        for _ in range(draws):
            # One pass for all exits: a drawn label's gradient has mean 0, so with independent draws the cross terms of
            # (sum_e sqrt(tau_e) g_e)^2 vanish in expectation, and tau_e E[g_e^2] is left of each exit.
            yield (
                logits,
                [
                    math.sqrt(tau / draws) * _residual(share, _drawn(share, generator))
                    for tau, share in zip(taus, shares, strict=True)
                ],
            )
        return
    for tau, output, share in zip(taus, logits, shares, strict=True):
        if draws == "fisher":
            yield [output], [math.sqrt(tau) * _residual(share, label)]
            continue
        for k in range(share.shape[1]):
            weight = (tau * share[:, k]).sqrt()
            yield [output], [weight[:, None] * _residual(share, torch.full_like(label, k))]


def _residual(share: Tensor, label: Tensor) -> Tensor:
    """(n, K): the gradient of the cross-entropy of each sample in its own logits."""
    return share - functional.one_hot(label, share.shape[1]).to(share)


def _drawn(share: Tensor, generator: torch.Generator) -> Tensor:
    """(n,) labels; drawn on the CPU, so that every device draws alike."""
    return torch.multinomial(share.cpu().double(), 1, generator=generator)[:, 0].to(share.device)


class _Squares:
    """Hooks that catch each layer's inputs and the gradients of its outputs, and add up squared weight gradients."""

    def __init__(self, sums: dict[str, Tensor], module: nn.Module, samples: int) -> None:
        self._sums, self._samples = sums, samples
        self._names: dict[nn.Module, str] = {}
        for name, part in module.named_modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                self._names[part] = name
        self._uses: dict[nn.Module, int] = defaultdict(int)
        self._pending: dict[nn.Module, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> _Squares:
        self._handles = [part.register_forward_hook(self._ran) for part in self._names]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._pending.clear()

    def _ran(self, part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not output.requires_grad or not len(output):
            return
        given = inputs[0].detach()
        if len(given) != self._samples:
            raise RuntimeError(
                f"{self._names[part]} was run on {len(given)} rows of a batch of {self._samples} images; per-sample "
                "gradients need one row for each image."
            )
        self._uses[part] += 1
        # a hook of the tensor, not of the module: it stays with this value where a ReLU overwrites it in place
        output.register_hook(lambda gradient: self._reached(part, given, gradient))  # type: ignore[no-untyped-call]

    def _reached(self, part: nn.Module, given: Tensor, gradient: Tensor) -> None:
        self._pending[part].append((given, gradient.detach()))
        if len(self._pending[part]) == self._uses[part]:  # now, so that one layer's gradient is held at a time
            self._add_(part)

    def flush_(self) -> None:
        """After a backward pass: layers of which it did not reach every use."""
        for part in list(self._pending):
            self._add_(part)

    def _add_(self, part: nn.Module) -> None:
        uses, name = self._pending.pop(part), self._names[part]
        if name not in self._sums:
            weight: Tensor = part.weight  # type: ignore[assignment]
            dtype = torch.promote_types(weight.dtype, torch.float32)
            self._sums[name] = torch.zeros_like(weight, dtype=dtype, requires_grad=False)
        add_squares_(self._sums[name], part, uses)
