"""The store: one Arrow file per decoded data set, refused where it is not what it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from scp_ray.data import listed
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.data.store import StoredPixels, open_store, read_header
from scp_ray.data.store_writer import write_store
from scp_ray.errors import DataError

SIZE = 30
HEADER = "image,lesion_id,low,gender,split"
# in no order of splits; b has no lesion; f is of the same lesion as a
ROWS = (
    "a,L1,0,0,test",
    "b,,7,1,train",
    "c,L3,3,1,val",
    "d,L4,1,0,train",
    "e,L5,2,1,test",
    "f,L1,0,1,train",
    "g,L7,5,0,val",
)
IN_ORDER = {"train": ["b", "d", "f"], "val": ["c", "g"], "test": ["a", "e"]}
LABELS = {"train": [7, 1, 0], "val": [3, 5], "test": [0, 2]}
SEXES = {"train": [1, 0, 1], "val": [1, 0], "test": [0, 1]}
UNITS = {"train": ["b", "L4", "L1"], "val": ["L3", "L7"], "test": ["L1", "L5"]}


@pytest.fixture(autouse=True)
def store_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCP_RAY_STORE", str(tmp_path / "stores"))
    return tmp_path / "stores"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of 90 x 60, noise, each its own."""
    (tmp_path / "root" / "images").mkdir(parents=True)
    for row, line in enumerate(ROWS):
        noise = np.random.default_rng(row).integers(0, 256, (60, 90, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "root" / "images" / f"{line[0]}.jpg", quality=90)
    write_rows(tmp_path / "root", ROWS)
    return tmp_path / "root"


def write_rows(root: Path, rows: tuple[str, ...]) -> None:
    (root / "metadata.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def data_set(root: Path, **options: Any) -> ISIC2019:
    return ISIC2019(str(root), image_size=SIZE, **options)


def load_anew(data: ISIC2019) -> Any:
    """As another process would."""
    listed._load.cache_clear()
    return data.load()


def decoded(root: Path, name: str) -> NDArray[np.uint8]:
    """(3, 30, 30): 90 x 60 becomes 45 x 30, of which columns 8 to 37 stay (7.5 is rounded to the even 8)."""
    with Image.open(root / "images" / f"{name}.jpg") as image:
        return np.asarray(image.resize((45, 30), Image.Resampling.BILINEAR))[:, 8:38].transpose(2, 0, 1)


def assert_close(images: NDArray[np.uint8], root: Path, names: list[str]) -> None:
    """The crop may be cut out before or after resizing: a weight's last bit is a level at most."""
    expected = np.stack([decoded(root, name) for name in names]).astype(int)
    assert images.shape == expected.shape
    assert np.abs(images - expected).max() <= 1


def batches_of(path: Path) -> list[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]


# ---- what it holds ----


def test_any_arrow_reader_opens_it(root: Path) -> None:
    table = pa.Table.from_batches(batches_of(data_set(root).build()))
    assert {"id", "unit", "label", "sex", "split", "image"} <= set(table.column_names)
    kind = table.schema.field("image").type
    assert isinstance(kind, pa.FixedShapeTensorType)
    assert (kind.value_type, kind.shape) == (pa.uint8(), [3, SIZE, SIZE])
    ids = [name for names in IN_ORDER.values() for name in names]
    assert table["id"].to_pylist() == ids
    assert table["split"].to_pylist() == [split for split, names in IN_ORDER.items() for _ in names]
    assert table["label"].to_pylist() == [*chain(*LABELS.values())]
    assert table["sex"].to_pylist() == [*chain(*SEXES.values())]
    assert table["unit"].to_pylist() == [*chain(*UNITS.values())]
    images = table["image"].combine_chunks()
    assert_close(images.to_numpy_ndarray(), root, ids)
    digests = [hashlib.blake2b((root / "images" / f"{name}.jpg").read_bytes(), digest_size=16) for name in ids]
    assert table["digest"].to_pylist() == [digest.hexdigest() for digest in digests]


def test_the_pixels_lie_side_by_side_behind_the_header(root: Path) -> None:
    """In the order train, val, test, and where a page of memory begins."""
    path = data_set(root).build()
    assert len(batches_of(path)) == 1
    images = np.fromfile(path, np.uint8, 7 * 3 * SIZE * SIZE, offset=8192).reshape(7, 3, SIZE, SIZE)
    assert_close(images, root, [name for names in IN_ORDER.values() for name in names])


def test_the_header_says_what_it_is(root: Path) -> None:
    data = data_set(root)
    header = read_header(data.build())
    assert header["length"] == f"{data.build().stat().st_size:016d}"
    digests = [
        hashlib.blake2b((root / "images" / f"{name}.jpg").read_bytes(), digest_size=16).hexdigest()
        for names in IN_ORDER.values()
        for name in names
    ]
    assert data.sources() == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert (header["format"], header["identity"]["image_size"], header["identity"]["decode"]) == (2, SIZE, 2)
    lines = ["\x1f".join([n, str(label), str(sex), split]) + "\x1e"
             for split, names in IN_ORDER.items()
             for n, label, sex in zip(names, LABELS[split], SEXES[split], strict=True)]  # fmt: skip
    assert header["identity"]["table"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_loading_gives_the_same(root: Path) -> None:
    data = data_set(root).load()
    assert list(data.splits) == ["train", "val", "test"]
    assert (data.name, data.attribute_names, data.privileged_code) == ("isic2019", ("sex",), 0)
    assert data.class_names == ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
    for name, split in data.splits.items():
        assert split.id == tuple(IN_ORDER[name])
        assert split.unit == tuple(UNITS[name])
        assert split.label.tolist() == LABELS[name]
        assert split.attributes.tolist() == [[sex] for sex in SEXES[name]]
        assert (split.image.dtype, split.label.dtype, split.attributes.dtype) == (
            torch.uint8,
            torch.int64,
            torch.int64,
        )
        assert split.image.is_contiguous()
        assert_close(split.image.numpy(), root, IN_ORDER[name])


def mappings(path: Path) -> list[range]:
    """Where the file lies in this process's memory."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    return [range(*(int(end, 16) for end in line[0].split("-"))) for line in lines]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_every_opening_uses_the_pages_of_the_file(root: Path) -> None:
    data = data_set(root)
    path, before = data.build(), pa.total_allocated_bytes()
    opened = [open_store(path, data.identity(), ("sex",)) for _ in range(3)]
    assert pa.total_allocated_bytes() - before < 2700  # less than one image
    places = mappings(path)
    assert len(places) >= 3
    for each in opened:
        for split in each.splits.values():
            first = split.image.data_ptr()
            assert any(first in place and first + split.image.nbytes - 1 in place for place in places)


def test_pages_outlive_a_store_that_is_replaced(root: Path) -> None:
    data = data_set(root)
    before = data.load().splits["train"]
    copy = before.image.clone()
    data.build(verify=True)
    assert torch.equal(before.image, copy)


def test_images_are_found_by_the_digest_of_their_file(root: Path) -> None:
    stored = StoredPixels(data_set(root).build())
    digests = {
        hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(): path.stem
        for path in (root / "images").iterdir()
    }
    assert stored.digests() == set(digests)
    for digest, name in digests.items():
        assert_close(stored.read(digest).reshape(1, 3, SIZE, SIZE), root, [name])


# ---- writing ----


def rows(count: int) -> pd.DataFrame:
    split = ["train"] * (count - 2) + ["val", "test"]
    columns = {"id": [f"i{row}" for row in range(count)], "unit": "u", "label": 0, "split": split, "sex": 1}
    return pd.DataFrame(columns | {"file": "f", "digest": [f"d{row}" for row in range(count)]})


IDENTITY = {"table": "t", "image_size": 8, "decode": 2}


def coloured(folder: Path, count: int) -> Path:
    """A file of so many pictures, each of one colour."""
    pixels = folder / "pixels"
    pixels.write_bytes(bytes(8192) + np.repeat(np.arange(count) % 251, 3 * 8 * 8).astype(np.uint8).tobytes())
    return pixels


@pytest.mark.parametrize("count", [3, 7, 1301])
def test_written_rows_come_back(tmp_path: Path, count: int) -> None:
    path = tmp_path / "new" / "store.arrow"
    write_store(path, rows(count), IDENTITY, coloured(tmp_path, count))
    splits = open_store(path, {"table": "t"}, ("sex",)).splits
    image = torch.cat([split.image for split in splits.values()])
    assert image.shape == (count, 3, 8, 8)
    assert image.flatten(1).float().mean(1).tolist() == [row % 251 for row in range(count)]
    assert (image == image[:, :1, :1, :1]).all()
    assert [name for split in splits.values() for name in split.id] == [f"i{row}" for row in range(count)]


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_store(tmp_path / name, rows(9), IDENTITY, coloured(tmp_path, 9))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_refused_store_leaves_the_pixels(tmp_path: Path) -> None:
    """What took the time is there for the next attempt, which gives what a first one gives."""
    write_store(tmp_path / "first", rows(5), IDENTITY, coloured(tmp_path, 5))
    pixels = coloured(tmp_path, 5)
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*taken.* Free space"):
        write_store(tmp_path / "taken", rows(5), IDENTITY, pixels)
    write_store(tmp_path / "second", rows(5), IDENTITY, pixels)
    assert (tmp_path / "second").read_bytes() == (tmp_path / "first").read_bytes()
    assert not pixels.exists()


def test_more_pixels_than_rows_are_cut_off(tmp_path: Path) -> None:
    """Of a build that went further than the table does now."""
    write_store(tmp_path / "store", rows(5), IDENTITY, coloured(tmp_path, 8))
    write_store(tmp_path / "other", rows(5), IDENTITY, coloured(tmp_path, 5))
    assert (tmp_path / "store").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_header_too_long_for_its_place_is_refused(tmp_path: Path) -> None:
    pixels = coloured(tmp_path, 5)
    before = pixels.read_bytes()
    with pytest.raises(DataError, match=r"has room for 8,192 bytes and this one takes 9,\d\d\d"):
        write_store(tmp_path / "store", rows(5), IDENTITY | {"table": "t" * 8000}, pixels)
    assert pixels.read_bytes() == before


# ---- what is refused ----


def cut_one(content: bytes) -> bytes:
    return content[:-1]


def cut_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_all(content: bytes) -> bytes:
    return b""


def zero_tail(content: bytes) -> bytes:
    return content[:-200] + bytes(200)


def longer(content: bytes) -> bytes:
    return content + b"\0"


def twice(content: bytes) -> bytes:
    """The tail is a whole one: only the length tells."""
    return content + content


def other_format(content: bytes) -> bytes:
    assert content.count(b'"format": 2,') == 2
    return content.replace(b'"format": 2,', b'"format": 7,')


def other_length(content: bytes) -> bytes:
    return content.replace(f"{len(content):016d}".encode(), f"{len(content) + 8:016d}".encode())


def text(content: bytes) -> bytes:
    return b"id,label\na,1\n" * 100


def other_arrow(content: bytes) -> bytes:
    table = pa.table({"id": ["a"], "label": [1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def no_json(content: bytes) -> bytes:
    return content.replace(b'{"format": 2,', b'["format": 2,')


DAMAGES = (cut_one, cut_half, cut_all, zero_tail, longer, twice, other_format, other_length, text, other_arrow, no_json)


@pytest.fixture
def damaged(root: Path) -> Callable[[Callable[[bytes], bytes]], tuple[ISIC2019, Path]]:
    def damaged(damage: Callable[[bytes], bytes]) -> tuple[ISIC2019, Path]:
        data = data_set(root)
        path = data.build()
        content = path.read_bytes()
        path.unlink()  # a new file, since the old one may be mapped
        path.write_bytes(damage(content))
        assert path.read_bytes() != content
        return data, path

    return damaged


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_store_is_refused(damaged: Any, damage: Callable[[bytes], bytes]) -> None:
    data, path = damaged(damage)
    for opened in (
        lambda: open_store(path, {}, ("sex",)),
        lambda: read_header(path),
        lambda: StoredPixels(path),
        lambda: load_anew(data),
    ):
        with pytest.raises(DataError) as caught:
            opened()
        assert str(path) in str(caught.value)
        assert "scp-ray data build" in str(caught.value)


def test_a_refused_length_says_both(damaged: Any) -> None:
    _, path = damaged(twice)
    length = path.stat().st_size
    with pytest.raises(DataError, match=f"is {length:,} bytes long and was written with {length // 2:,}"):
        read_header(path)


def test_a_refused_format_says_both(damaged: Any) -> None:
    _, path = damaged(other_format)
    with pytest.raises(DataError, match="has format 7; this version reads 2"):
        read_header(path)


@pytest.mark.parametrize("again", [{"mend": True}, {"verify": True}], ids=["mend", "verify"])
@pytest.mark.parametrize("damage", [cut_half, twice, text, other_format], ids=lambda damage: damage.__name__)
def test_a_damaged_store_is_made_anew_where_that_is_asked_for(
    root: Path, damaged: Any, damage: Callable[[bytes], bytes], again: dict[str, bool]
) -> None:
    data, path = damaged(damage)
    assert data.build(**again) == path
    assert_close(load_anew(data).splits["train"].image.numpy(), root, IN_ORDER["train"])


def test_mending_leaves_a_whole_store_alone(root: Path) -> None:
    path = data_set(root).build()
    before = path.stat()
    assert data_set(root).build(mend=True) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_store_gives_no_pixels_to_others(root: Path, damaged: Any) -> None:
    damaged(cut_half)
    other = data_set(root, splits="seeded", val_share=0.3, test_share=0.3, split_seed=1)
    for name, split in other.load().splits.items():
        assert len(split) > 0, name
        assert_close(split.image.numpy(), root, list(split.id))


def test_a_missing_store_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.arrow", tmp_path):
        with pytest.raises(DataError, match=f"{path} is no whole store"):
            read_header(path)


# ---- another data set's store ----


def test_the_store_of_another_table_is_refused(root: Path) -> None:
    one = data_set(root)
    write_rows(root, tuple(line.replace("d,L4,1", "d,L4,2") for line in ROWS))
    path, other = one.build(), one.identity()
    write_rows(root, ROWS)
    assert one.identity() != other
    mine = one.build()
    os.replace(path, mine)
    for opened in (lambda: open_store(mine, one.identity(), ("sex",)), lambda: load_anew(one)):
        with pytest.raises(DataError) as caught:
            opened()
        assert str(mine) in str(caught.value)
        assert "built from another data set: its table is" in str(caught.value)
        assert "scp-ray data build" in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("image_size", 64), ("decode", 99), ("table", "0" * 64)])
def test_each_part_of_the_identity_counts(root: Path, key: str, value: object) -> None:
    data = data_set(root)
    path = data.build()
    open_store(path, data.identity(), ("sex",))
    with pytest.raises(DataError, match=f"its {key} is .*, wanted is {value}"):
        open_store(path, data.identity() | {key: value}, ("sex",))


def lie(path: Path, truth: str, lie: str) -> None:
    """Change both copies of the header, the file's length left as it is."""
    content = path.read_bytes()
    assert len(truth) == len(lie) and content.count(truth.encode()) == 2
    path.unlink()
    path.write_bytes(content.replace(truth.encode(), lie.encode()))


LIES = {
    "a larger image": (f'"image_size": {SIZE}, "decode"', '"image_size": 64, "decode"'),
    "a smaller image": (f'"image_size": {SIZE}, "decode"', '"image_size": 10, "decode"'),
    "no identity": ('"identity"', '"idantity"'),
    "no contents": ('"contents"', '"kontents"'),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_refused(root: Path, name: str) -> None:
    data = data_set(root)
    path = data.build()
    lie(path, *LIES[name])
    with pytest.raises(DataError) as caught:
        load_anew(data)
    assert str(path) in str(caught.value)


# ---- what the table's digest does not say ----


def test_another_lesion_is_noticed(root: Path) -> None:
    load_anew(data_set(root))
    write_rows(root, tuple(line.replace("d,L4", "d,L1") for line in ROWS))
    assert load_anew(data_set(root)).splits["train"].unit == ("b", "L1", "L1")


@pytest.fixture
def by_column(root: Path) -> Callable[..., Any]:
    from scp_ray.data.csv_table import CSVTable

    options = {"file": "image", "label": "low", "group": "gender", "split": "split", "images": "images"}
    return lambda **more: CSVTable(str(root), image_size=SIZE, suffix=".jpg", **options, **more)


def test_another_privileged_group_is_noticed(by_column: Callable[..., Any]) -> None:
    assert [load_anew(by_column(privileged_code=code)).privileged_code for code in (0, 1)] == [0, 1]


def test_other_class_names_are_noticed(root: Path, by_column: Callable[..., Any]) -> None:
    load_anew(by_column())
    write_rows(root, tuple(line.replace("b,,7", "b,,9") for line in ROWS))
    assert load_anew(by_column()).class_names == ("0", "1", "2", "3", "5", "9")


def test_json_of_the_header(root: Path) -> None:
    """The header is JSON text under the key scp_ray of the schema."""
    path = data_set(root).build()
    with pa.memory_map(str(path)) as source:
        assert json.loads(pa.ipc.open_file(source).schema.metadata[b"scp_ray"])["format"] == 2
