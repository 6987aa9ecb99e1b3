"""The command, asked in this process, and a search space small enough for it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

from scp_ray.cli.main import main

# 0.05 and 0.2 of 64 channels are 3 and 13
MINIATURE = """\
# Does it run at all?
name: miniature
trial:
  dataset: {name: synthetic, num_classes: 2, image_size: 32, train: 64, val: 48, test: 40}
  backbone: tiny
  rounds: 1
  train: {epochs: 1, batch_size: 16, lr: 0.05}
  fine_tune: {epochs: 1, batch_size: 16, lr: 0.01}
grid: {pr_c: [0.05, 0.2]}
seeds: [0]
resources: {cpus_per_trial: 1, device: cpu}
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout, read strictly: NaN is no JSON."""
        assert self.out.count("\n") == 1

        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no JSON")

        content = json.loads(self.out, parse_constant=refuse)
        assert isinstance(content, dict)
        return content


def ask(*arguments: object) -> Answer:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(word) for word in arguments])
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.getvalue(), err.getvalue())
