"""Files that other people made: nothing in them is executed, none leads out of its folder, none fills the memory."""

from __future__ import annotations

import ast
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from miniature import SPACE
from PIL import Image

from scp_ray.backbones import weights
from scp_ray.cli.main import main
from scp_ray.data.csv_table import CSVTable
from scp_ray.data.fitzpatrick17k import Fitzpatrick17k
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.data.pixels import MOST_PIXELS, look_at
from scp_ray.errors import BackboneError, DataError

PACKAGE = Path(__file__).parents[1] / "scp_ray"


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


# ---- what reads ----

# what may execute what it reads -> the argument that forbids it; None: not to be used at all
READERS = {
    "torch.load": ("weights_only", True),
    "load_state_dict_from_url": ("weights_only", True),
    "get_state_dict": ("weights_only", True),
    "pickle.load": None,
    "pickle.loads": None,
    "pickle.Unpickler": None,
    "cloudpickle.load": None,
    "cloudpickle.loads": None,
    "pd.read_pickle": None,
    "joblib.load": None,
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "Tuner.restore": None,
    "tune.Tuner.restore": None,
    "eval": None,
    "exec": None,
}


def unsafe(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
        rule = READERS.get(name, READERS.get(name.rpartition(".")[2], ()))
        if name == "yaml.load" and [ast.unparse(each) for each in node.args[1:]] != ["_Loader"]:
            found.append(f"{node.lineno}: {name} without the safe loader")
        elif name.endswith("np.load") and "allow_pickle" in given:
            found.append(f"{node.lineno}: {name} that may unpickle")
        elif rule is None and not (name.endswith(".eval") and not node.args):
            found.append(f"{node.lineno}: {name}")
        elif rule and ast.unparse(given.get(rule[0], ast.Constant(None))) != str(rule[1]):
            found.append(f"{node.lineno}: {name} without {rule[0]}={rule[1]}")
    return found


def test_nothing_in_the_package_reads_what_could_execute() -> None:
    """But for two: why a worker was lost is read from a file that Tune, in this process, has just written for it, and a
    job of a search comes to a worker packed into its trial's config, as its driver has made it a moment ago.
    """
    found = {path.relative_to(PACKAGE).as_posix(): unsafe(path.read_text()) for path in PACKAGE.rglob("*.py")}
    faults = {path: [fault.partition(": ")[2] for fault in some] for path, some in found.items() if some}
    assert faults == {"tune/workers.py": ["pickle.loads"], "tune/trainable.py": ["pickle.loads"]}


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, None, pickle)",
        "pickle.loads(x)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(x)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(x)",
        "tune.Tuner.restore(x, y)",
        "entry.get_state_dict(check_hash=True)",
        "eval(x)",
    ],
)
def test_the_audit_finds(source: str) -> None:
    assert len(unsafe(source)) == 1


def test_what_the_audit_lets_pass() -> None:
    assert unsafe("torch.load(p, weights_only=True); yaml.load(t, _Loader); np.load(p); model.eval(); load(b)") == []


def test_imagenet_weights_in_the_cache_are_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is in torch's cache already is not fetched, so nobody checks its hash."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    name = Path(weights._imagenet_entry("resnet18").url).name
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Trap(tmp_path / "ran"), 2)),
        lambda path: torch.save({"x": Trap(tmp_path / "ran")}, path),
    ):
        write(folder / name)
        with pytest.raises(BackboneError, match=rf"{name} is damaged\. Delete it"):
            weights.load_weights("imagenet", "resnet18")
    assert not (tmp_path / "ran").exists()


def test_nothing_that_lies_in_a_sweeps_folder_is_unpickled(tmp_path: Path) -> None:
    """Pickles under every name that Tune, Optuna, joblib or torch give theirs, and in place of a trial's own files."""
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    root, mark = tmp_path / "miniature", tmp_path / "ran"
    assert main(["trial", str(space), "--out", str(tmp_path)]) == 0
    trap = pickle.dumps(Trap(mark))
    for name in ("tuner.pkl", "trainable.pkl", "experiment_state-2026.json", "searcher-state.pkl", "basic.pkl"):
        for folder in (root, root / "logs" / "tune" / "sweep", root / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(trap)
    for path in [*root.rglob("*.state"), *root.glob("models/*/*"), *root.glob("bases/*/scores/*")]:
        path.write_bytes(trap)
    for path in root.glob("rounds/*.parquet"):
        path.unlink()
    for command in (["status"], ["report"], ["track"]):
        assert main([*command, str(root)]) == 0
    assert main(["trial", str(space), "--out", str(tmp_path)]) == 0
    assert not mark.exists()


# ---- what leads out ----

HEADER = "picture,finding,tone,part"


def rows(*files: str) -> list[str]:
    """One row a split for each tone."""
    spread = [(tone, split) for tone in ("dark", "light") for split in ("train", "val", "test")]
    named = [*files, *(f"{number}.png" for number in range(len(spread) - len(files)))]
    return [
        f"{name},{'wart' if split == 'train' else 'acne'},{tone},{split}"
        for name, (tone, split) in zip(named, spread, strict=True)
    ]


def data_set(root: Path, *files: str, **options: Any) -> CSVTable:
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.csv").write_text("\n".join([HEADER, *rows(*files)]) + "\n")
    named = {"file": "picture", "label": "finding", "group": "tone", "split": "part"}
    return CSVTable(root=str(root), image_size=8, **named, **options)  # type: ignore[arg-type]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def linked(root: Path, outside: Path) -> str:
    (root / "linked.png").symlink_to(outside)
    return "linked.png"


def linked_folder(root: Path, outside: Path) -> str:
    (root / "folder").symlink_to(outside.parent)
    return f"folder/{outside.name}"


OUT: dict[str, Callable[[Path, Path], str]] = {
    "..": lambda root, outside: f"../{outside.parent.name}/{outside.name}",
    ".. in the middle": lambda root, outside: f"sub/../../{outside.parent.name}/{outside.name}",
    "absolute": lambda root, outside: str(outside),
    "a link": linked,
    "a linked folder": linked_folder,
}


@pytest.mark.parametrize("way", OUT)
def test_an_image_outside_the_root_is_refused(tmp_path: Path, way: str) -> None:
    outside = picture(tmp_path / "private" / "secret.png")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for number in range(6):
        picture(root / f"{number}.png")
    chosen = data_set(root, OUT[way](root, outside))
    for look in (chosen.table, chosen.load, chosen.health, chosen.build):
        with pytest.raises(DataError, match=rf"leads out of {root}, to {tmp_path / 'private'}"):
            look()


def test_what_stays_below_the_root_is_taken_however_it_is_written(tmp_path: Path) -> None:
    """Links within the root, a way there and back, and a root that is a link itself."""
    real = tmp_path / "real"
    for number in range(6):
        picture(real / "all" / f"{number}.png")
        (real / f"{number}.png").symlink_to(real / "all" / f"{number}.png")
    (tmp_path / "root").symlink_to(real)
    chosen = data_set(tmp_path / "root", "all/../all/0.png")
    assert len(chosen.table()) == 6


@pytest.mark.parametrize("way", ["..", "absolute", "a link"])
def test_a_table_outside_the_root_is_refused(tmp_path: Path, way: str) -> None:
    (tmp_path / "private").mkdir()
    secret = tmp_path / "private" / "secret.csv"
    secret.write_text("\n".join([HEADER, *rows()]) + "\n")
    root = tmp_path / "root"
    data_set(root)
    (root / "linked.csv").symlink_to(secret)
    name = {"..": "../private/secret.csv", "absolute": str(secret), "a link": "linked.csv"}[way]
    with pytest.raises(DataError, match=rf"leads out of {root}"):
        data_set(root, table_file=name).rows()


@pytest.mark.parametrize("kind", [ISIC2019, Fitzpatrick17k])
def test_published_tables_too(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    (tmp_path / "root" / "metadata.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(DataError, match="leads out of"):
        kind(root=str(tmp_path / "root")).rows()


@pytest.mark.parametrize("name", ["images/../../private/secret", "../private/secret"])
def test_ids_that_are_paths(tmp_path: Path, name: str) -> None:
    """isic2019 makes images/<id>.jpg of an id."""
    outside = tmp_path / "private" / "secret.jpg"
    picture(outside)
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    lines = ["image,lesion_id,low,gender,split"]
    lines += [
        f"{each},,0,{number % 2},{split}"
        for number, (each, split) in enumerate([(f"../{name}", "train"), ("b", "val"), ("c", "test")])
    ]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="leads out of"):
        ISIC2019(root=str(root), image_size=8).table()


# ---- what fills the memory ----


def claim(path: Path, width: int, height: int) -> Path:
    """A PNG of a few hundred bytes that says it is so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows_ = zlib.compress(bytes(100_000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows_) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("limit", [None, 89_478_485], ids=["Pillow refuses nothing", "Pillow as it comes"])
@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (MOST_PIXELS + 1, 1)])
def test_decompression_bombs_are_refused_by_what_they_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, width: int, height: int
) -> None:
    """50,000 x 50,000 would be 7.5 GB. The file is not decoded: it would be found to break off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    seen = look_at(claim(tmp_path / "bomb.png", width, height), 8)
    assert "decompression bomb" in seen.problem
    assert (seen.pixels, seen.truncated) == (b"", False)


def test_a_large_picture_is_no_bomb(tmp_path: Path) -> None:
    """90 million pixels, of which Pillow only warns (here warnings are errors): white and black halves."""
    image = Image.new("L", (9_500, 9_500), 0)
    image.paste(255, (0, 0, 9_500, 4_750))
    image.save(tmp_path / "large.png")
    seen = look_at(tmp_path / "large.png", 8)
    assert seen.problem == ""
    column = np.frombuffer(seen.pixels, np.uint8).reshape(3, 8, 8)[0, :, 0].tolist()
    assert column[:3] + column[5:] == [255, 255, 255, 0, 0, 0]
