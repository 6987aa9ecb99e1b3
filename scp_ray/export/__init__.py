"""Floor 4: a trained, pruned model for use elsewhere, checked against the masked one before anything is written."""

from scp_ray.export.rebuild import load_exported

__all__ = ["load_exported"]
