"""From scores to the channels that go: by one attribute or several, the lowest or those that are significant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from scp_ray.criteria.base import Criterion
from scp_ray.data.batches import FixedBatches
from scp_ray.errors import ConfigError
from scp_ray.maths.null import p_values, permuted_groups
from scp_ray.maths.ranks import combined_p, combined_rank
from scp_ray.parts import Batch, ChannelScores, Learner, PrunableLayer
from scp_ray.seeds import derive_seed


@dataclass(frozen=True)
class Pick:
    """Which channels go: the ``lowest`` k, or of them only those that are ``significant``.

    A channel is significant where its score is lower than the groups' permutations explain, at a false discovery rate
    of q. The null ``within_class`` permutes groups among samples of one class, so that what follows from class and
    group going together is no evidence; ``marginal`` permutes them among all, for comparison.

    With several ``attributes`` each channel is ranked by each of them, and the mean or the worst rank counts.
    """

    rule: Literal["lowest", "significant"] = "lowest"
    q: Annotated[float, Gt(0), Lt(1)] = 0.05
    null: Literal["within_class", "marginal"] = "within_class"
    permutations: Annotated[int, Ge(10)] = 100
    attributes: tuple[str, ...] = ()  # the primary one unless named
    combine: Literal["mean_rank", "worst_rank"] = "mean_rank"

    def __post_init__(self) -> None:
        if len(set(self.attributes)) < len(self.attributes):
            raise ConfigError(f"attributes: got {list(self.attributes)}; name each of them once.")

    @property
    def level(self) -> float | None:
        """q, where significance counts."""
        return self.q if self.rule == "significant" else None

    def identity(self, attribute_names: tuple[str, ...]) -> dict[str, object]:
        """What decides the channels, without what does not count under this rule; of data with these attributes."""
        several = {} if self.attributes in ((), attribute_names[:1]) else {"attributes": list(self.attributes)}
        if len(self.attributes) > 1:
            several |= {"combine": self.combine}  # type: ignore[dict-item]
        if self.rule == "lowest":
            return dict(several)
        return {"rule": self.rule, "q": self.q, "null": self.null, "permutations": self.permutations, **several}

    def check(self, criterion: Criterion, attribute_names: tuple[str, ...]) -> None:
        """Raises ConfigError for what cannot be picked by."""
        faults = []
        try:
            self.positions(attribute_names)
        except ConfigError as error:
            faults += error.faults
        if not criterion.uses_groups and (self.rule == "significant" or self.attributes):
            faults.append(
                f"pick: criterion {criterion.plugin_name} does not look at the groups, so neither significance nor "
                "attributes mean anything to it. Choose snnl or gap-taylor, or pick: lowest."
            )
        if faults:
            raise ConfigError(faults)

    def positions(self, attribute_names: tuple[str, ...]) -> list[int]:
        """Where the attributes stand among those of the data. Raises ConfigError for one that is not there."""
        unknown = [name for name in self.attributes if name not in attribute_names]
        if unknown:
            raise ConfigError(
                f"pick.attributes: {', '.join(unknown)} is no attribute of the data set; it has "
                f"{', '.join(attribute_names)}. Others are named by the data set's option also."
            )
        return [attribute_names.index(name) for name in self.attributes] or [0]


def score_channels(
    criterion: Criterion,
    learner: Learner,
    layer: PrunableLayer,
    batches: Iterable[Batch],
    pick: Pick,
    *,
    label: Tensor,
    attributes: Tensor,
    unit: Tensor,
    spare: Tensor,
    score: Callable[..., Tensor] | None = None,
) -> ChannelScores:
    """Scores, and p-values where significance counts, in one pass over the batches.

    Args:
        batches: the scoring batches, N samples together.
        label: (N,) of those samples, in the batches' order.
        attributes: (N, A) of them: those that count.
        unit: (N,) codes of what belongs together (lesions): permuted as one.
        spare: channels that are out of the running: those already pruned.
        score: takes the place of ``criterion.score`` and is called as that is.
    """
    score = score or criterion.score
    if pick.rule == "lowest" and attributes.shape[1] == 1 and not pick.attributes:
        return ChannelScores(score(learner, layer, batches))
    codes = list(attributes.cpu().T)
    rows = [_labellings(label.cpu(), groups, unit.cpu(), pick, index) for index, groups in enumerate(codes)]
    sized, sizes = _sized(batches)
    every = score(learner, layer, sized, group=torch.cat(rows))
    scores = torch.split(every, [len(part) for part in rows])
    observed = torch.stack([part[0] for part in scores])
    combined = observed[0]
    if len(codes) > 1:
        combined = combined_rank(observed, "mean" if pick.combine == "mean_rank" else "worst", spare=spare).float()
    if pick.rule == "lowest":
        return ChannelScores(combined)
    centred = [part - criterion.offset(labels, sizes) for part, labels in zip(scores, rows, strict=True)]
    p = torch.stack([p_values(part[0], part[1:], spare=spare) for part in centred])
    return ChannelScores(combined, combined_p(p))


def _sized(batches: Iterable[Batch]) -> tuple[Iterable[Batch], Sequence[int]]:
    """The batches and their sizes: known at once, or noted while they go by."""
    if isinstance(batches, FixedBatches):
        return batches, batches.sizes
    sizes: list[int] = []
    return _counted(batches, sizes), sizes


def _counted(batches: Iterable[Batch], sizes: list[int]) -> Iterator[Batch]:
    """The batches, their sizes noted."""
    for batch in batches:
        sizes.append(len(batch.label))
        yield batch


def _labellings(label: Tensor, groups: Tensor, unit: Tensor, pick: Pick, index: int) -> Tensor:
    """(1 + R, N): the groups as they are, and permuted where significance counts.

    A lesion whose images are of several classes or groups is taken for as many units.
    """
    if pick.rule == "lowest":
        return groups[None]
    generator = torch.Generator().manual_seed(derive_seed(0, "null", index))
    whole = torch.unique(torch.stack([unit, label, groups]), dim=1, return_inverse=True)[1]
    null = permuted_groups(
        label,
        groups,
        pick.permutations,
        within="class" if pick.null == "within_class" else "all",
        generator=generator,
        unit=whole,
    )
    return torch.cat([groups[None], null])


Scorer = Callable[[Learner, PrunableLayer], ChannelScores | Tensor]
