"""Generated pictures: shape carries the class, colour the group."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from scp_ray.data.base import DataSet, datasets
from scp_ray.data.synthetic import Synthetic


def picture(path: Path, colour: tuple[int, int, int] = (10, 20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).save(path)


def of_split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split"] == split]


def cells(table: pd.DataFrame, split: str) -> np.ndarray:
    """(K, 2) counts of class and tone."""
    rows = of_split(table, split)
    return np.array(pd.crosstab(rows["label"], rows["tone"]))


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def small(**options: Any) -> Synthetic:
    return Synthetic(**({"image_size": 32, "train": 64, "val": 200, "test": 200} | options))


def test_synthetic_is_the_same_each_time() -> None:
    first, second = small(), small()
    pd.testing.assert_frame_equal(first.table(), second.table())
    torch.testing.assert_close(first.images(first.table()), second.images(second.table()), rtol=0, atol=0)
    assert first.identity() == second.identity()


@pytest.mark.parametrize("change", [{"seed": 1}, {"bias": 0.0}, {"image_size": 40}, {"num_classes": 3}, {"val": 100}])
def test_synthetic_identity_changes_with_every_field(change: dict[str, Any]) -> None:
    assert small(**change).identity() != small().identity()


@pytest.mark.parametrize("change", [{"seed": 1}, {"bias": 0.601}])
def test_synthetic_identity_knows_what_the_table_does_not(change: dict[str, Any]) -> None:
    assert small(**change).identity() | {"table": ""} != small().identity() | {"table": ""}


def test_synthetic_seed_changes_the_pictures_only_as_a_whole() -> None:
    table = small().table().head(4)
    first, other = small().images(table), small(seed=1).images(table)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_synthetic_table() -> None:
    table = Synthetic().table()
    assert list(table.columns) == ["id", "unit", "label", "split", "tone"]
    assert Counter(table["split"]) == {"train": 800, "val": 400, "test": 400}
    assert table["id"].iloc[17] == "train-00017"
    assert table["id"].is_unique
    assert (table["unit"] == table["id"]).all()
    for split in ("train", "val", "test"):  # mixed: the first rows are not one cell
        assert of_split(table, split).head(30).groupby(["label", "tone"]).ngroups > 4
    shares = cells(table, "val").sum(1) / 400
    assert shares[0] > 2 * shares[-1]  # unbalanced classes
    assert 0.3 < cells(table, "val")[:, 1].sum() / 400 < 0.4  # and groups


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("bias", [0.0, 0.6, 1.0])
def test_synthetic_cells_that_metrics_need(num_classes: int, bias: float) -> None:
    data_set = Synthetic(num_classes=num_classes, bias=bias)
    table = data_set.table()
    assert len(data_set.class_names) == num_classes
    for split in ("val", "test"):
        counts = cells(table, split)
        assert counts.shape == (num_classes, 2)
        assert counts.min() >= 8
        assert chi_square(counts) < 0.1  # independent but for rounding
    if bias == 0.0:
        assert chi_square(cells(table, "train")) < 0.1
    else:
        # far beyond the 0.1 % point of 5 degrees of freedom, 20.5
        assert chi_square(cells(table, "train")) > 100
        assert cells(table, "train").min() > 0  # yet no class is without one of the tones


def test_synthetic_tie_grows_with_bias() -> None:
    ties = [chi_square(cells(Synthetic(bias=bias).table(), "train")) for bias in (0.0, 0.3, 0.6, 1.0)]
    assert ties == sorted(ties)
    assert ties[1] > 20


def test_synthetic_picture_depends_on_its_row_alone() -> None:
    data_set = small()
    table = data_set.table()
    whole = data_set.images(table)
    assert whole.shape == (464, 3, 32, 32)
    assert whole.dtype == torch.uint8
    for row in (0, 31, 32, 100, 463):
        torch.testing.assert_close(data_set.images(table.iloc[[row]])[0], whole[row], rtol=0, atol=0)
    shuffled = np.random.default_rng(0).permutation(len(table))
    torch.testing.assert_close(data_set.images(table.iloc[shuffled]), whole[torch.from_numpy(shuffled)], rtol=0, atol=0)


def test_synthetic_load_keeps_rows_and_pictures_together() -> None:
    data_set = small()
    table = data_set.table()
    data = data_set.load()
    rows = of_split(table, "val")
    split = data.splits["val"]
    assert split.id == tuple(rows["id"])
    assert split.label.tolist() == rows["label"].tolist()
    assert split.attributes.tolist() == [[tone] for tone in rows["tone"]]
    torch.testing.assert_close(split.image[:3], data_set.images(rows.head(3)), rtol=0, atol=0)
    assert (data.num_classes, data.privileged_code, data.attribute_names) == (4, 0, ("tone",))


def nearest_mean(means_of: np.ndarray, codes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Codes of the nearest mean of each code; learned on one half, asked of the other."""
    means = np.stack([means_of[codes == code].mean(0) for code in np.unique(codes)])
    return np.asarray(((features[:, None] - means[None]) ** 2).sum(2).argmin(1))


def test_synthetic_colour_tells_the_group_and_not_the_class() -> None:
    data_set = Synthetic(image_size=32, train=16, val=800, test=800, bias=0.0)
    table = data_set.table()
    val, test = of_split(table, "val"), of_split(table, "test")
    colour = {name: data_set.images(rows).float().mean((2, 3)).numpy() for name, rows in (("val", val), ("test", test))}
    tone = nearest_mean(colour["val"], val["tone"].to_numpy(), colour["test"])
    assert (tone == test["tone"].to_numpy()).mean() > 0.95
    truth = test["label"].to_numpy()
    for code in (0, 1):  # within a tone, so that the tone does not drown the shape
        fit, ask = (val["tone"] == code).to_numpy(), (test["tone"] == code).to_numpy()
        guess = nearest_mean(colour["val"][fit], val["label"].to_numpy()[fit], colour["test"][ask])
        recall = np.mean([(guess[truth[ask] == label] == label).mean() for label in range(4)])
        assert abs(recall - 0.25) < 0.12  # chance is 1 of 4; 3 standard errors of a cell of 60 are 0.09


def test_synthetic_shape_tells_the_class() -> None:
    # the mean picture of a class differs from that of another far more than two halves of one class do
    data_set = Synthetic(image_size=32, train=16, val=800, test=800, bias=0.0)
    table = data_set.table()
    means = {}
    for split in ("val", "test"):
        rows = of_split(table, split)
        rows = rows[rows["tone"] == 0]
        images = data_set.images(rows).float().mean(1)
        means[split] = [images[torch.tensor((rows["label"] == label).tolist())].mean(0) for label in range(4)]
    distance = np.array([[float((a - b).abs().mean()) for b in means["test"]] for a in means["val"]])
    assert np.diag(distance).max() * 2 < distance[~np.eye(4, dtype=bool)].min()


def contrast(images: torch.Tensor) -> torch.Tensor:
    """(N,) of 3 x 3 means: the spread within a picture, mostly that between lesion and skin."""
    return torch.nn.functional.avg_pool2d(images.float().mean(1, keepdim=True), 3).flatten(1).std(1)


def test_synthetic_bias_hides_the_lesions_of_one_group() -> None:
    table = of_split(small().table(), "val")
    plain, biased = small(bias=0.0).images(table), small(bias=1.0).images(table)
    light = torch.tensor((table["tone"] == 0).tolist())
    torch.testing.assert_close(plain[light], biased[light], rtol=0, atol=0)
    assert contrast(biased[~light]).mean() < 0.5 * contrast(plain[~light]).mean()
    assert contrast(plain[light]).mean() == pytest.approx(float(contrast(plain[~light]).mean()), rel=0.15)


def test_all_data_sets_are_found() -> None:
    assert {"csv", "fitzpatrick17k", "isic2019", "synthetic"} <= set(datasets.names())
    assert all(issubclass(datasets.get(name), DataSet) for name in datasets.names())
