"""Which convolution alone the channels of a tensor come from, followed through one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

# By the function's name, whichever module, function or method was called.
ELEMENTWISE = frozenset({
    "relu", "relu_", "relu6", "threshold", "threshold_", "hardtanh", "hardtanh_", "hardswish", "hardsigmoid", "silu",
    "gelu", "mish", "elu", "elu_", "celu", "celu_", "selu", "selu_", "leaky_relu", "leaky_relu_", "prelu", "rrelu",
    "tanh", "sigmoid", "softplus", "softsign", "clamp", "clamp_", "clamp_min", "clamp_min_", "clone", "contiguous",
    "dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout", "to",
})  # fmt: skip
SPATIAL = frozenset(("max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d", "interpolate", "pad"))
GLOBAL_POOLS = frozenset(("adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax"))
JOINS = frozenset(("cat", "concat", "concatenate"))


class _Chain(NamedTuple):
    tensor: Tensor  # held, so that no other tensor gets its id
    version: int  # a tensor that was changed in place (+= a shortcut) is no longer the convolution's own
    owner: str
    dim: int  # where its channels are


class Chains(TorchFunctionMode):
    """While it is entered, a tensor that an owner claims keeps that owner through what keeps channels apart.

    That is: elementwise functions, pooling, resizing, padding, a permutation of dimensions and a concatenation of one
    tensor. Any other function ends the chain; modules that go on with it claim their output.
    """

    def __init__(self) -> None:
        super().__init__()
        self._chains: dict[int, _Chain] = {}
        self._pooled: dict[int, Tensor] = {}

    def claim(self, tensor: Tensor, owner: str, dim: int = 1) -> None:
        """From now on the channels of ``tensor``, along ``dim``, are the owner's."""
        self._chains[id(tensor)] = _Chain(tensor, tensor._version, owner, dim)

    def owner(self, tensor: Tensor, dim: int = 1) -> str | None:
        """Whose channels lie along ``dim``, or None where they are several's or nobody's."""
        chain = self._chain(tensor)
        return chain.owner if chain is not None and chain.dim == dim else None

    def mark_pooled(self, tensor: Tensor) -> None:
        """From now on ``tensor`` counts as made of globally pooled values."""
        self._pooled[id(tensor)] = tensor

    def is_pooled(self, tensor: Tensor) -> bool:
        """Whether all it is made of are global means or maxima: one number per channel, however large the image."""
        return id(tensor) in self._pooled

    def _chain(self, tensor: Tensor) -> _Chain | None:
        chain = self._chains.get(id(tensor))
        return chain if chain is not None and chain.version == tensor._version else None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, given = getattr(func, "__name__", ""), _only_tensor(args)
        chain = None if given is None else self._chain(given)  # before the call, which may change it in place
        result = func(*args, **(kwargs or {}))
        if given is None or not isinstance(result, Tensor):
            return result
        if chain is not None:
            dim = _dim_after(name, chain, args, kwargs or {})
            if dim is not None and result.shape[dim] == given.shape[chain.dim]:
                self.claim(result, chain.owner, dim)
        pools = name in GLOBAL_POOLS and result.ndim == 4 and result.shape[2:] == (1, 1)
        if pools or (name in ELEMENTWISE and self.is_pooled(given)):
            self.mark_pooled(result)
        return result


def _only_tensor(args: tuple[Any, ...]) -> Tensor | None:
    """The first argument where it is a tensor, or a list of one."""
    first = args[0] if args else None
    if isinstance(first, list | tuple) and len(first) == 1:
        first = first[0]
    return first if isinstance(first, Tensor) else None


def _dim_after(name: str, chain: _Chain, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Where the channels are in the result; None where the function mixes them or is not known."""
    if name == "permute":
        order = kwargs["dims"] if "dims" in kwargs else args[1] if isinstance(args[1], list | tuple) else args[1:]
        return [index % chain.tensor.ndim for index in order].index(chain.dim)
    if name == "pad" and len(kwargs["pad"] if "pad" in kwargs else args[1]) > 4:  # more than height and width
        return None
    if name in ELEMENTWISE or (name in JOINS and isinstance(args[0], list | tuple)):
        return chain.dim
    return chain.dim if name in SPATIAL and chain.dim == 1 else None
