"""What is exported: a learner as it answers, without what only its training needs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scp_ray.errors import ConfigError
from scp_ray.maths.group_norm import GroupBatchNorm2d
from scp_ray.parts import Learner

UNKNOWN, ROUTED_TO = -1, 1  # as the norms of each group's own are trained: a group nobody knows goes with group 1


class Classifier(nn.Module):
    """Images (N, 3, S, S), RGB in [0, 1], to the logits (N, K) whose argmax is the learner's prediction.

    Of a multi-exit network they are those of each sample's exit, of heads per group what their rule makes of them.
    ``needs_group``: a second input (N,) int64, the group's code.
    """

    def __init__(self, learner: Learner, *, needs_group: bool, constants: dict[str, float]) -> None:
        super().__init__()
        self.learner = learner
        self.needs_group = needs_group
        self.constants = constants
        self.norms = [part for part in learner.modules() if isinstance(part, EitherNorm)]

    def forward(self, image: Tensor, group: Tensor | None = None) -> Tensor:
        """Logits (N, K) in float32."""
        if not self.norms:
            return self.learner.predict(image, group)[0]
        assert group is not None
        code = torch.where(group == UNKNOWN, ROUTED_TO, group)
        for norm in self.norms:
            norm.code = code
        try:
            logits: Tensor = self.learner.network(image)
        finally:
            for norm in self.norms:
                norm.code = None
        return logits.float()

    def inputs(self, image: Tensor, group: Tensor) -> tuple[Tensor, ...]:
        """What it is called with."""
        return (image, group) if self.needs_group else (image,)


class EitherNorm(nn.Module):
    """``GroupBatchNorm2d`` in eval mode as a fixed graph: every branch sees the batch, each sample keeps its own."""

    def __init__(self, norm: GroupBatchNorm2d) -> None:
        super().__init__()
        self.branches = norm.branches
        self.code: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        assert self.code is not None
        code = self.code.view(-1, 1, 1, 1)
        out: Tensor = self.branches[0](x)
        for index, branch in enumerate(list(self.branches)[1:], start=1):
            out = torch.where(code == index, branch(x), out)
        return out


def classifier_of(learner: Learner, image_size: int) -> Classifier:
    """A copy of a learner in eval mode, on the CPU: masks become zeros in plain weights, training's own heads go."""
    copied = copy.deepcopy(learner).cpu().eval()
    for part in list(copied.modules()):
        if parametrize.is_parametrized(part):
            _bake_(part)
    image, group = torch.zeros(2, 3, image_size, image_size), torch.tensor([0, 1])
    needs_group = _needs_group(copied, image)
    _drop_unused_(copied, image, group)
    constants = _fix_constants_(copied)
    for name, part in list(copied.named_modules()):
        if isinstance(part, GroupBatchNorm2d):
            owner, _, own = name.rpartition(".")
            setattr(copied.get_submodule(owner), own, EitherNorm(part))
    return Classifier(copied.requires_grad_(False), needs_group=needs_group, constants=constants).eval()


def _bake_(part: nn.Module) -> None:
    """Masked parameters become plain ones. torch's own removal would take them from the copy's original too."""
    values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}  # type: ignore[union-attr]
    part.__class__ = parametrize.type_before_parametrizations(part)
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))


def _needs_group(learner: Learner, image: Tensor) -> bool:
    try:
        with torch.no_grad():
            learner.predict(image)
    except ConfigError:  # what learners say that cannot answer without it
        return True
    return False


def _drop_unused_(learner: Learner, image: Tensor, group: Tensor) -> None:
    """Parts of the learner that no answer needs: an adversary's head."""
    called: set[nn.Module] = set()
    handles = [part.register_forward_hook(lambda part, *_: called.add(part)) for part in learner.modules()]
    try:
        with torch.no_grad():
            learner.predict(image, group)
    finally:
        for handle in handles:
            handle.remove()
    for name, child in list(learner.named_children()):
        if not called & set(child.modules()):
            delattr(learner, name)


def _fix_constants_(learner: Learner) -> dict[str, float]:
    """Numbers of the learner's own that were chosen on validation (an exit threshold) become part of the graph."""
    found = {name: float(value) for name, value in learner.named_buffers(recurse=False) if value.ndim == 0}
    for name, value in found.items():
        delattr(learner, name)
        setattr(learner, name, value)
    return found
