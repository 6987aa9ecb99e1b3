from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import scp_ray

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "scp_ray"
LONGEST_FILE = 260

# design.md, section 1; parts, modes and activations are the nouns that floors 1 to 5 share
FLOORS = {
    **dict.fromkeys(("errors", "seeds", "registry", "disk", "map_file", "terminal", "signals", "maths"), 0.0),
    **{"allocator": 0.0, "addresses": 0.0},
    **{"remote": 0.1, "places": 0.2},
    **dict.fromkeys(("parts", "modes", "devices", "activations"), 0.5),
    **dict.fromkeys(("data", "backbones", "criteria", "methods"), 1.0),
    **dict.fromkeys(("loop",), 2.0),
    **dict.fromkeys(("assembly", "config", "trial", "ledger"), 3.0),
    **dict.fromkeys(("tracking", "tune", "report", "export"), 4.0),
    **{"loading": 4.5, "cli": 5.0},
}
SAME_FLOOR = {
    ("maths", "errors"),
    ("maths", "seeds"),
    ("registry", "errors"),
    ("disk", "errors"),
    ("map_file", "errors"),
    ("activations", "parts"),
    ("trial", "assembly"),
}
ONLY_IN = {"ray": "tune", "optuna": "tune", "mlflow": "tracking", "matplotlib": "report", "plotly": "report"}
MATHS_MAY_IMPORT = {"torch", "numpy", "scipy", "scp_ray", *sys.stdlib_module_names}


class Import(NamedTuple):
    line: int
    module: str  # "scp_ray.parts", "ray.tune"
    name: str  # what is taken from it, or ""
    for_types: bool  # under ``if TYPE_CHECKING:``


def imports_of(tree: ast.AST, package: str, for_types: bool = False) -> Iterator[Import]:
    """Every import of a file whose package is ``package``, those inside functions and by literal name included."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import():
                yield from (Import(node.lineno, alias.name, "", for_types) for alias in node.names)
            case ast.ImportFrom():
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                module = ".".join([*above, *filter(None, [node.module])])
                yield from (Import(node.lineno, module, alias.name, for_types) for alias in node.names)
            case ast.Call(func=called, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(called).rpartition(".")[2] in ("import_module", "__import__"):
                    yield Import(node.lineno, name, "", for_types)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from imports_of(ast.Module(node.body, []), package, for_types=True)
            yield from imports_of(ast.Module(node.orelse, []), package, for_types)
        else:
            yield from imports_of(node, package, for_types)


def room_of(module: str) -> str:
    """ "tune" of "scp_ray.tune.sweep"; "" of "scp_ray" itself."""
    return module.split(".")[1] if "." in module else ""


def is_plugin(tree: ast.AST) -> bool:
    """Whether a class of the file is registered."""
    decorators = [d for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for d in node.decorator_list]
    return any(ast.unparse(d).partition("(")[0].rpartition(".")[2] == "register" for d in decorators)


def faults_of(package: Path) -> list[str]:
    """Offending imports as "scp_ray/room/file.py:line: what is wrong"."""
    trees, modules = {}, {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        trees[path] = ast.parse(path.read_text(encoding="utf-8"))
        modules[path] = (module, module if is_package else module.rpartition(".")[0])
    known = {name for names in modules.values() for name in names}
    plugins = {modules[path][0] for path in trees if is_plugin(trees[path])}
    faults = []
    for path, tree in trees.items():
        module, parent = modules[path]
        for found in imports_of(tree, parent):
            target = f"{found.module}.{found.name}" if f"{found.module}.{found.name}" in known else found.module
            fault = _fault(module, target, found, plugins)
            if fault:
                faults.append(f"{path.relative_to(package.parent).as_posix()}:{found.line}: {fault}")
    return faults


def _fault(module: str, target: str, found: Import, plugins: set[str]) -> str:
    room, other, top = room_of(module), room_of(target), target.split(".")[0]
    if not room:
        lazy = found.for_types or top in sys.stdlib_module_names
        return "" if lazy else f"the contents page imports {target}; public names are resolved on first use"
    if room not in FLOORS:
        return f"{room} stands on no floor: add it to FLOORS"
    if top in ONLY_IN and room != ONLY_IN[top]:
        return f"{room} imports {top}, which belongs to {ONLY_IN[top]} alone"
    if room == "maths" and top not in MATHS_MAY_IMPORT:
        return f"maths imports {top}; allowed are torch, numpy, scipy and the standard library"
    if top != "scp_ray":
        return ""
    if not other:
        dunder = found.name.startswith("__")
        return "" if dunder else f"{room} imports {found.name or target} from the contents page; name its own file"
    if other not in FLOORS:
        return f"{other} stands on no floor: add it to FLOORS"
    if module in plugins and target in plugins and module != target:
        return f"plug-in {module} imports plug-in {target}"
    if room == other or FLOORS[other] < FLOORS[room] or (room, other) in SAME_FLOOR:
        return ""
    if FLOORS[other] > FLOORS[room]:
        return f"{room} (floor {FLOORS[room]:g}) imports {other} (floor {FLOORS[other]:g})"
    return "" if found.for_types and room != "maths" else f"{room} imports {other}, a room of the same floor"


def test_every_import_goes_down():
    assert faults_of(PACKAGE) == []


def test_every_room_of_the_package_is_walked():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert {"maths", "parts", "data", "loop", "config", "tune", "cli"} <= rooms <= set(FLOORS)


# -- the checker itself, on a small package of the same shape --------------------------------------------------------

SOUND = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from scp_ray.trial import run_trial",
    "errors.py": "",
    "parts.py": "from scp_ray.maths.report import fairness_report",
    "modes.py": "from torch import nn",
    "activations.py": "from scp_ray.parts import Batch",
    "registry.py": "from scp_ray.errors import ScpError",
    "maths/report.py": "import math\nimport numpy.typing\nfrom scp_ray.errors import ScpError",
    "criteria/base.py": "from scp_ray.parts import Batch",
    "criteria/snnl.py": "from scp_ray.criteria.base import register\n@register('snnl')\nclass SNNL: ...",
    "criteria/none.py": "from scp_ray.criteria import base\n@base.register('none')\nclass No: ...",
    "methods/base.py": "",
    "loop/rounds.py": "from scp_ray.criteria.base import Criterion\nfrom scp_ray.methods import base",
    "config/space.py": "def read():\n    from ..loop import rounds\n    from .. import parts",
    "ledger/rows.py": "import typing\nif typing.TYPE_CHECKING:\n    from scp_ray.config import space",
    "tracking/mlflow.py": "import mlflow.entities\nfrom scp_ray.ledger import rows",
    "tune/sweep.py": "import ray\nfrom optuna import create_study\nfrom scp_ray.config.space import read",
    "report/figures.py": "from matplotlib.figure import Figure",
    "cli/main.py": "from scp_ray import __version__\nimport scp_ray.tune.sweep, scp_ray.tracking.mlflow",
}


def planted(folder: Path, changes: dict[str, str]) -> list[str]:
    for name, text in (SOUND | changes).items():
        path = folder / "scp_ray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return faults_of(folder / "scp_ray")


def test_a_sound_package_has_no_faults(tmp_path):
    assert planted(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("maths/report.py", "import math\nfrom scp_ray.parts import Batch", 2, "maths (floor 0) imports parts"),
        ("maths/report.py", "import pandas", 1, "maths imports pandas"),
        ("maths/report.py", "from scp_ray.registry import Registry", 1, "same floor"),
        ("maths/report.py", "if TYPE_CHECKING:\n    import scp_ray.disk", 2, "same floor"),
        ("errors.py", "import scp_ray.maths.report", 1, "same floor"),
        ("parts.py", "from scp_ray.modes import evaluating", 1, "same floor"),
        ("criteria/base.py", "from scp_ray.loop.rounds import prune", 1, "criteria (floor 1) imports loop (floor 2)"),
        ("criteria/base.py", "from scp_ray.methods.base import Method", 1, "criteria imports methods"),
        ("criteria/none.py", SOUND["criteria/none.py"] + "\nfrom .snnl import SNNL", 4, "plug-in"),
        ("criteria/none.py", SOUND["criteria/none.py"] + "\nfrom . import snnl", 4, "plug-in"),
        ("loop/rounds.py", "def f():\n    from scp_ray.trial import run", 2, "loop (floor 2) imports trial"),
        ("loop/rounds.py", "class A:\n    def f(self):\n        import ray", 3, "loop imports ray"),
        ("ledger/rows.py", "from scp_ray.config.space import read", 1, "ledger imports config"),
        ("ledger/rows.py", "if TYPE_CHECKING:\n    import scp_ray.cli.main", 2, "ledger (floor 3) imports cli"),
        ("ledger/rows.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import scp_ray.config.space", 4, "ledger imports"),
        ("ledger/rows.py", "if not TYPE_CHECKING:\n    import scp_ray.config.space", 2, "ledger imports config"),
        ("config/space.py", "from ..ledger.rows import a", 1, "config imports ledger"),
        ("config/space.py", "from .. import tune", 1, "config (floor 3) imports tune (floor 4)"),
        ("tracking/mlflow.py", "import mlflow\nfrom scp_ray.tune import sweep", 2, "tracking imports tune"),
        ("tracking/mlflow.py", "from ray import tune", 1, "tracking imports ray"),
        ("tune/sweep.py", "import mlflow.entities as e", 1, "tune imports mlflow"),
        ("cli/main.py", "if TYPE_CHECKING:\n    import optuna", 2, "cli imports optuna"),
        ("cli/main.py", "import importlib\nimportlib.import_module('matplotlib.pyplot')", 2, "cli imports matplotlib"),
        ("cli/main.py", "from scp_ray import snnl_scores", 1, "contents page"),
        ("cli/main.py", "import os\ntry:\n    import plotly\nexcept ImportError: ...", 3, "cli imports plotly"),
        ("__init__.py", "from scp_ray.errors import ScpError", 1, "contents page imports"),
        ("__init__.py", "def load():\n    import torch", 2, "contents page imports torch"),
        ("attic/old.py", "import os", 1, "attic stands on no floor"),
        ("cli/main.py", "import scp_ray.attic", 1, "attic stands on no floor"),
    ],
)
def test_a_planted_fault_is_found_in_its_line(tmp_path, name, text, line, words):
    faults = planted(tmp_path, {name: text})
    assert len(faults) == 1
    assert faults[0].startswith(f"scp_ray/{name}:{line}: ")
    assert words in faults[0]


# -- what an import costs ---------------------------------------------------------------------------------------------

HEAVY = "print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)))"


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import scp_ray", "[]"),
        ("import scp_ray; dir(scp_ray); scp_ray.__all__; scp_ray.__version__", "[]"),
        ("import scp_ray.cli.main", "[]"),
        ("from scp_ray.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass", "[]"),
        ("from scp_ray.cli.main import main\ntry: main(['sweep', '--help'])\nexcept SystemExit: pass", "[]"),
        ("import scp_ray; scp_ray.ScpError", "[]"),
        ("import scp_ray; scp_ray.snnl_scores", "['numpy', 'torch']"),
    ],
)
def test_a_fresh_interpreter_loads_nothing_heavy_until_it_is_used(code, loaded):
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{HEAVY}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == loaded


# -- the contents page ------------------------------------------------------------------------------------------------


def test_public_names_are_sorted_resolve_and_are_listed():
    assert scp_ray.__all__ == sorted(set(scp_ray.__all__))
    assert set(scp_ray.__all__) <= set(dir(scp_ray))
    homes = {name: getattr(scp_ray, name).__module__ for name in scp_ray.__all__}
    assert all(home.startswith("scp_ray.") for home in homes.values())
    assert homes["snnl_scores"] == "scp_ray.maths.snnl"
    # design.md, section 3
    promised = {"fairness_report", "fate", "load_sweep", "prune_for_fairness", "prune_rounds", "snnl_scores"}
    assert promised <= set(homes)


def test_type_checkers_see_the_same_names_as_users():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {found.name: found.module for found in imports_of(tree, "scp_ray") if found.for_types}
    assert sorted(seen) == scp_ray.__all__
    assert all(getattr(sys.modules[home], name) is getattr(scp_ray, name) for name, home in seen.items())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'scp_ray' has no attribute 'snnl_score'"):
        scp_ray.snnl_score  # noqa: B018
    assert not hasattr(scp_ray, "torch")


def test_no_file_is_too_long_to_be_read_in_one_go():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    too_long = {path.relative_to(ROOT).as_posix(): n for path, n in lengths.items() if n > LONGEST_FILE}
    assert too_long == {}


def test_the_cluster_launcher_takes_cluster_yaml():
    """Ray's own schema for ``ray up``."""
    import jsonschema
    import ray
    import yaml

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8")), schema)
