"""Which model a path of weights means: of a sweep, with everything that the sweep knows of it, or a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scp_ray.errors import BackboneError, ConfigError
from scp_ray.places import AnyPath, any_path
from scp_ray.remote import RemotePath

if TYPE_CHECKING:
    from scp_ray.config import TrialConfig
    from scp_ray.ledger import Ledger
    from scp_ray.parts import Learner

FILE = "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """A file of weights; of a sweep's also where it stands."""

    path: AnyPath
    ledger: Ledger | None = None
    config: TrialConfig | None = None  # of the trial or base model

    @classmethod
    def find(cls, given: str) -> Weights:
        """From a file, or from a folder models/<trial_id> or bases/<base_id> of a sweep.

        On an object store only safetensors are read. Raises BackboneError where there is no such file, ConfigError
        where its sweep does not know it.
        """
        from scp_ray.ledger import Ledger

        path = any_path(given).absolute()
        path = path if path.is_file() else path / FILE
        if not path.is_file():
            raise BackboneError(f"--weights {given}: there is no such file, and no folder that holds {FILE}.")
        if isinstance(path, RemotePath) and not path.name.endswith(".safetensors"):
            raise BackboneError(
                f"--weights {given}: from a URI only .safetensors is read; copy the file to this machine."
            )
        kind, root = path.parent.parent.name, path.parent.parent.parent
        if path.name != FILE or kind not in ("models", "bases") or not (root / "sweep.json").exists():
            return cls(path)
        ledger = Ledger(root)
        return cls(path, ledger, _config_of(path.parent.name, ledger))

    def needed_by(self, config: TrialConfig) -> Mapping[str, Any]:
        """Weights of the base models that the method builds on. Raises ConfigError where they are not to be had."""
        from scp_ray.methods.base import all_needs
        from scp_ray.tune.record import needed_states

        if not all_needs(config.method):
            return {}
        if self.config is None or self.ledger is None or config.method != self.config.method:
            raise ConfigError(
                f"method: {config.method.plugin_name} builds on another trained model, which only a sweep's folder "
                "holds. Name the weights there (models/<trial_id>), or say --method vanilla where the file is a plain "
                "network's."
            )
        return needed_states(self.config, self.ledger)

    def load_(self, learner: Learner) -> None:
        """Put the weights, masks included, into the learner. Raises BackboneError where they do not fit."""
        from scp_ray.maths.masks import load_masked_state_

        state = self._state()
        bare = not any(name.startswith("network.") for name in state)  # a network's own state dict
        try:
            load_masked_state_(learner.network if bare else learner, state)
        except (RuntimeError, AttributeError) as error:
            raise BackboneError(
                f"--weights {self.path} do not fit {type(learner).__name__} on {learner.backbone_name}: {error}\n"
                "Name what the weights were trained as by --backbone, --method and --dataset."
            ) from error

    def _state(self) -> Mapping[str, Any]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        from scp_ray.backbones.weights import load_weights

        if not isinstance(self.path, RemotePath):
            state = load_weights(str(self.path), None)
            assert state is not None
            return state
        try:
            return load(self.path.read_bytes())
        except SafetensorError as error:
            raise BackboneError(f"--weights {self.path} is damaged and cannot be read: {error}") from error


def _config_of(identifier: str, ledger: Ledger) -> TrialConfig:
    from scp_ray.config import TrialConfig
    from scp_ray.config.identity import named  # what is recorded was checked

    for arm in ledger.definition()["arms"]:
        for trial in arm["trials"]:
            config = TrialConfig.from_dict(arm["config"] | {"seed": trial["seed"]})
            if identifier in (trial["trial_id"], trial["base_id"]):
                return config
            if identifier == trial["vanilla_id"] or config.method.needs:
                base = named(config).bases().get(identifier)
                if base is not None:
                    return base
    raise ConfigError(f"{identifier} is no trial and no base model of {ledger.definition_path}; is it a copy?")
