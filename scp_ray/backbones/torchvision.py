"""Any classification CNN of torchvision, by torchvision's name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from scp_ray.backbones.base import Backbone, register
from scp_ray.backbones.weights import State
from scp_ray.errors import ConfigError, UnknownNameError
from scp_ray.modes import drawing_from

# By the beginning of the name.
_TRANSFORMER = (
    "is a vision transformer: it works on patches and attention, not on a chain of convolutions whose channels could "
    "be pruned"
)
REFUSED = {
    "vit_": _TRANSFORMER,
    "swin_": _TRANSFORMER,
    "maxvit_": _TRANSFORMER,
    "squeezenet": "classifies by a convolution: it has no linear head, and its last channels are the classes",
}
# In training the auxiliary classifiers would give a tuple of logits; init_weights only silences a warning.
_PLAIN = {"aux_logits": False, "init_weights": True}
WITHOUT_AUXILIARY = {"inception_v3": _PLAIN, "googlenet": _PLAIN}
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
# torchvision's DenseNet files still have the names of its first version, such as "denselayer1.norm.1.weight".
FIRST_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")


def offered() -> list[str]:
    """The names that ``model`` may have, sorted."""
    from torchvision import models

    return sorted(name for name in models.list_models(module=models) if not name.startswith(tuple(REFUSED)))


@register("torchvision")
@dataclass(frozen=True)
class Torchvision(Backbone):
    """A classification CNN of torchvision by name, e.g. {name: torchvision, model: densenet121}.

    Raises UnknownNameError for a model that does not exist, ConfigError for one that cannot be pruned by channels.
    """

    model: str
    weights: str = "none"
    ignored = ("downsample", ".proj.")  # the shortcuts of ResNets and of RegNets

    def __post_init__(self) -> None:
        super().__post_init__()
        for prefix, reason in REFUSED.items():
            if self.model.startswith(prefix):
                raise ConfigError(f"model: {self.model} {reason}. Choose a CNN, e.g. resnet50 or densenet121.")
        if self.model not in (names := offered()):
            raise UnknownNameError("model (only torchvision's classification CNNs can be named)", self.model, names)

    @property
    def imagenet_name(self) -> str:  # type: ignore[override]
        """The model's own name."""
        return self.model

    @property
    def title(self) -> str:
        """Both names."""
        return f"{self.plugin_name} {self.model}"

    def module(self, num_classes: int) -> nn.Module:
        """torchvision's model; Inception and GoogLeNet without their auxiliary classifiers."""
        from torchvision.models import get_model

        options = WITHOUT_AUXILIARY.get(self.model, {})
        module: nn.Module = get_model(self.model, weights=None, num_classes=num_classes, **options)
        return module

    def sketch(self, num_classes: int) -> nn.Module:
        """The module on the meta device; of RegNets only after it was built, as their constructor reads tensors."""
        if not self.model.startswith("regnet"):
            return super().sketch(num_classes)
        with drawing_from(0):
            return self.module(num_classes).to("meta")

    def _loaded(self, state: State, num_classes: int) -> nn.Module:
        named = {FIRST_DENSENET.sub(r"\1", key): value for key, value in state.items()}
        kept = {key: value for key, value in named.items() if not key.startswith(AUXILIARY)}
        return super()._loaded(kept, num_classes)
