"""The contract of a base method, and the room's register."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from scp_ray.errors import ConfigError
from scp_ray.maths.balance import balanced_weights
from scp_ray.maths.report import FairnessReport
from scp_ray.methods.joins import JOINED
from scp_ray.parts import Batch, Evaluation, FairnessData, Learner, Network, TrainPlan
from scp_ray.registry import Registry


class Method:
    """Builds and trains a learner. A frozen dataclass whose fields are its hyper-parameters."""

    plugin_name: ClassVar[str]
    post_hoc: ClassVar[bool] = False  # changes a trained model by ``finish_``, and trains none itself

    @property
    def own_loss(self) -> bool:
        """Whether its training loss is another one than plain cross-entropy."""
        return True

    @property
    def needs(self) -> tuple[Method, ...]:
        """Methods whose trained learners ``build`` needs first (a teacher, say)."""
        return ()

    def revision(self, plan: TrainPlan) -> int:
        """Counted up whenever a change of code moves the numbers that training by ``plan`` gives: part of trials' ids.

        0 is left out of them, so that ids of before hold where numbers do.
        """
        return 0

    def check(self, network: Network, data_name: str, privileged_code: int | None, image_size: int) -> None:
        """Raises ConfigError for a backbone or data set that the method cannot work with: before anything starts.

        Args:
            network: an outline of the backbone, on the meta device.
            data_name: of the data set.
            privileged_code: of the data set's primary attribute; None where nobody said.
            image_size: side of the images.
        """

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """An untrained learner.

        Args:
            backbone: makes a freshly initialised network with ``data.num_classes`` outputs, or the number it is given.
            data: for class counts, groups and the privileged code.
            bases: the trained learners of ``needs``, by plug-in name.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define build().")

    def take_(self, learner: Learner, data: FairnessData) -> None:
        """For methods that only finish: remember on another method's trained learner what ``finish_`` will need."""
        raise NotImplementedError(f"{type(self).__name__} does not define take_().")

    def sampler(self, label: Tensor, group: Tensor) -> Tensor | None:
        """Sampling weights (N,) of the training set, drawn with replacement; None = every sample once per epoch.

        Default: balanced over classes, as in the released recipe.
        """
        return balanced_weights(label, group, "class")

    def finish_(self, learner: Learner, train_batches: Iterable[Batch]) -> None:
        """Once after base training: masks that need a trained model (FairPrune, OBD)."""

    def calibrate_(self, learner: Learner, val_outputs: Evaluation, reference: FairnessReport | None) -> bool:
        """Set what is chosen on validation (an exit threshold), after base training and every round.

        Args:
            val_outputs: the learner's answers before calibration.
            reference: the vanilla model's validation report, where there is one.

        Returns:
            True where predictions may have changed, so that they have to be made again.
        """
        return False


def all_needs(method: Method) -> list[Method]:
    """What a method needs, and what those need, each once and after its own needs."""
    found: list[Method] = []
    for needed in method.needs:
        found += [other for other in (*all_needs(needed), needed) if other not in found]
    return found


def group_count(data: FairnessData) -> int:
    """How many codes the primary attribute has."""
    return int(data.splits["train"].attributes[:, 0].max()) + 1


def require_two_groups(method: Method, data: FairnessData) -> None:
    """Raises ConfigError where there are more: the method compares one group with another."""
    if (count := group_count(data)) != 2:
        raise ConfigError(
            f"method: {method.plugin_name} compares two groups, and {data.attribute_names[0]} of {data.name} has "
            f"{count}. Choose a data set option that makes two groups, or another method."
        )


@dataclass(frozen=True)
class Joined(Method):
    """Two methods in one: the second, which only finishes, on a model that the first trained."""

    first: Method
    second: Method

    post_hoc = True

    def __post_init__(self) -> None:
        if not self.second.post_hoc:
            raise ConfigError(
                f"method: {self.second.plugin_name} trains a model of its own, so it cannot be put on another's. The "
                "second of two has to be one that prunes a trained model: fairprune or obd."
            )

    @property
    def plugin_name(self) -> str:  # type: ignore[override]
        """Both names."""
        return f"{self.first.plugin_name}-{self.second.plugin_name}"

    @property
    def own_loss(self) -> bool:
        """As the first trains."""
        return self.first.own_loss

    def revision(self, plan: TrainPlan) -> int:
        """As the first trains."""
        return self.first.revision(plan)

    @property
    def needs(self) -> tuple[Method, ...]:
        """The trained first."""
        return (self.first,)

    def check(self, network: Network, data_name: str, privileged_code: int | None, image_size: int) -> None:
        """What the second cannot work with; the first, which is needed, is asked by itself."""
        self.second.check(network, data_name, privileged_code, image_size)

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The first's trained learner, ready for the second."""
        learner = bases[self.first.plugin_name]
        self.second.take_(learner, data)
        return learner

    def sampler(self, label: Tensor, group: Tensor) -> Tensor | None:
        """As the first samples: for fine-tuning after channels are pruned."""
        return self.first.sampler(label, group)

    def finish_(self, learner: Learner, train_batches: Iterable[Batch]) -> None:
        """What the second does."""
        self.second.finish_(learner, train_batches)

    def calibrate_(self, learner: Learner, val_outputs: Evaluation, reference: FairnessReport | None) -> bool:
        """What the first chooses."""
        return self.first.calibrate_(learner, val_outputs, reference)


class Methods(Registry[Method]):
    """The room's plug-ins, and the joins of two that have a name of their own."""

    joined: ClassVar[dict[str, tuple[str, str]]] = JOINED

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*super().names(), *self.joined})

    def get(self, name: str) -> type[Method]:
        """The class of that name; of a join it is ``Joined``."""
        return Joined if name in self.joined else super().get(name)


methods = Methods("method", "scp_ray.methods")
register = methods.register
