"""Batches: the same for the same seed and epoch, balanced where asked, and short ones by rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch

from scp_ray.data import batches
from scp_ray.data.augment import augment
from scp_ray.data.batches import TrainFeed, ahead, eval_batches, fits, place, scoring_batches
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import Batch, Split, TrainPlan


def split(count: int, classes: int = 3) -> Split:
    """Each picture is one colour, its row number, so that a batch tells which rows it holds."""
    rows = torch.arange(count)
    return Split(
        image=(rows % 256).to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).contiguous(),
        label=rows % classes,
        attributes=torch.stack([rows % 2, rows % 5], 1),
        id=tuple(f"i{row}" for row in range(count)),
        unit=tuple(f"u{row}" for row in range(count)),
    )


def rows_of(batch: Batch) -> list[int]:
    return [round(float(value) * 255) for value in batch.image[:, 0, 0, 0]]


def plan(batch_size: int, augment: str = "none") -> TrainPlan:
    return TrainPlan(batch_size=batch_size, augment=augment)  # type: ignore[arg-type]


def flat(batches: Iterable[Batch]) -> list[int]:
    return [row for batch in batches for row in rows_of(batch)]


# ---- training ----


def test_a_batch_holds_what_its_rows_hold() -> None:
    data = split(10)
    (batch,) = TrainFeed(data, plan(10), None)(3, 4)
    rows = torch.tensor(rows_of(batch))
    assert batch.image.dtype == torch.float32
    torch.testing.assert_close(batch.image, data.image[rows].float() / 255, rtol=0, atol=0)
    assert batch.label.tolist() == data.label[rows].tolist()
    assert batch.attributes.tolist() == data.attributes[rows].tolist()
    assert batch.group.tolist() == data.attributes[rows, 0].tolist()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("recipe", ["none", "flips"])
def test_same_seed_and_epoch_same_batches(weighted: bool, recipe: str) -> None:
    data = split(100)
    data.image.copy_(torch.randint(256, data.image.shape, generator=torch.Generator().manual_seed(0)))
    feed = TrainFeed(data, plan(8, recipe), torch.ones(100) if weighted else None)

    def pixels(seed: int, number: int) -> torch.Tensor:
        return torch.cat([batch.image for batch in feed(seed, number)])

    first = pixels(5, 2)
    torch.rand(3)  # the default stream has no part in it
    torch.testing.assert_close(pixels(5, 2), first, rtol=0, atol=0)
    assert not torch.equal(pixels(5, 3), first)
    assert not torch.equal(pixels(6, 2), first)


def test_default_stream_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(TrainFeed(split(20), plan(4, "flips"), torch.ones(20))(0, 0))
    scoring_batches(split(20), 4)
    assert torch.equal(torch.rand(1), expected)


def test_without_weights_each_row_once_in_another_order_each_epoch() -> None:
    feed = TrainFeed(split(100), plan(10), None)
    first, second = (flat(feed(0, number)) for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert first != list(range(100))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (100, 32, [32, 32, 32]),  # 4 rows dropped
        (96, 32, [32, 32, 32]),
        (63, 32, [32]),  # even 31 of 32 are dropped
        (32, 32, [32]),
        (20, 32, [20]),  # the only batch stays
        (2, 2, [2]),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_short_last_batch_is_dropped_unless_it_is_the_only_one(
    count: int, batch_size: int, sizes: list[int], weighted: bool
) -> None:
    feed = TrainFeed(split(count), plan(batch_size), torch.ones(count) if weighted else None)
    assert [len(batch.label) for batch in feed(0, 0)] == sizes


def test_class_balanced_weights_give_equal_shares() -> None:
    label = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    data = Split(torch.zeros(1000, 3, 1, 1, dtype=torch.uint8), label, label[:, None] % 2, ("",) * 1000, ("",) * 1000)
    weights = Vanilla().sampler(label, label)
    assert weights is not None
    feed = TrainFeed(data, plan(100), weights)
    drawn = torch.cat([batch.label for number in range(20) for batch in feed(0, number)])
    assert len(drawn) == 20_000
    shares = torch.bincount(drawn, minlength=3) / 20_000
    error = (1 / 3 * 2 / 3 / 20_000) ** 0.5  # of a binomial share
    assert ((shares - 1 / 3).abs() < 4 * error).all()


def test_weights_choose_the_rows() -> None:
    weights = torch.zeros(50)
    weights[[7, 9]] = torch.tensor([1.0, 3.0])
    feed = TrainFeed(split(50), plan(50), weights)
    drawn = [row for number in range(40) for row in flat(feed(0, number))]
    assert set(drawn) == {7, 9}
    assert abs(drawn.count(9) / 2000 - 0.75) < 4 * (0.75 * 0.25 / 2000) ** 0.5


# ---- flips ----


def test_flips_give_the_four_mirrored_forms_of_each_sample() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    forms = {
        (1.0, 2.0, 3.0, 4.0): 0,
        (2.0, 1.0, 4.0, 3.0): 0,
        (3.0, 4.0, 1.0, 2.0): 0,
        (4.0, 3.0, 2.0, 1.0): 0,
    }
    batch = image.expand(400, 3, 2, 2).clone()
    batch[:, 1] += 10
    flipped = (augment(batch, "flips", torch.Generator().manual_seed(0)) * 255).round()
    torch.testing.assert_close(flipped[:, 1], flipped[:, 0] + 10, rtol=0, atol=0)  # channels turn together
    for sample in flipped[:, 0]:
        forms[tuple(sample.flatten().tolist())] += 1
    assert sum(forms.values()) == 400
    assert all(abs(count - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5 for count in forms.values())
    assert batch[0, 0].tolist() == image.tolist()  # the batch that came in is as it was


def test_no_augmentation_changes_nothing() -> None:
    batch = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(augment(batch, "none", torch.Generator().manual_seed(0)), batch.float() / 255)


# ---- evaluation ----


def test_evaluation_keeps_every_row_in_order_each_time() -> None:
    batches = eval_batches(split(70), batch_size=32)
    assert len(batches) == 3
    for _ in range(2):
        assert [rows_of(batch) for batch in batches] == [
            list(range(32)),
            list(range(32, 64)),
            list(range(64, 70)),
        ]


# ---- scoring ----


@pytest.mark.parametrize(
    ("count", "half", "drop"),
    [
        (300, [128, 128], [128, 128]),  # 44 < 64 are left
        (319, [128, 128], [128, 128]),  # 63
        (320, [128, 128, 64], [128, 128]),
        (384, [128, 128, 128], [128, 128, 128]),
        (129, [128], [128]),
        (128, [128], [128]),
        (50, [50], [50]),  # the only batch
    ],
)
@pytest.mark.parametrize("order", ["permuted", "table"])
def test_scoring_last_batch_rule(count: int, half: list[int], drop: list[int], order: str) -> None:
    for rule, expected in (("half", half), ("drop", drop)):
        batches = scoring_batches(split(count), 128, order=order, last_batch=rule)  # type: ignore[arg-type]
        assert [len(batch.label) for batch in batches] == expected
        assert len(batches) == len(expected)


def test_scoring_permutation_is_one_and_the_same() -> None:
    first = flat(scoring_batches(split(200), 50))
    assert sorted(first) == list(range(200))
    assert first != list(range(200))
    torch.manual_seed(7)
    assert flat(scoring_batches(split(200, classes=5), 50)) == first
    assert flat(scoring_batches(split(200), 25)) == first  # the size cuts the order, it does not draw another


def test_scoring_iterates_the_same_batches_again() -> None:
    batches = scoring_batches(split(100), 30)
    assert [rows_of(batch) for batch in batches] == [rows_of(batch) for batch in batches]


def test_scoring_in_table_order() -> None:
    batches = scoring_batches(split(100), 30, order="table", last_batch="drop")
    assert [rows_of(batch) for batch in batches] == [list(range(30)), list(range(30, 60)), list(range(60, 90))]


# ---- devices ----


def test_on_the_cpu_a_split_stays_the_same_object() -> None:
    data = split(4)
    assert place(data, torch.device("cpu")) is data


def test_a_split_is_placed_once_per_device() -> None:
    data, other = split(4), split(4)
    device = torch.device("meta")  # any device that is not the CPU
    placed = place(data, device)
    assert placed.image.device == placed.label.device == placed.attributes.device == device
    assert placed.id == data.id
    assert placed.unit == data.unit
    assert place(data, device) is placed
    assert place(other, device) is not placed


def test_a_gpu_takes_the_images_up_to_its_share_of_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 pictures of 3 x 2 x 2 bytes are 1,200; a quarter of 4,800 are as many."""
    data = split(100)
    for free, expected in ((4_800, True), (4_799, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**9))
        assert fits(data, torch.device("cuda")) is expected


def test_images_that_do_not_fit_stay_and_follow_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device `meta` has no contents: only where and how much can be seen."""
    monkeypatch.setattr(batches, "fits", lambda split, device: False)
    data = split(10)
    placed = place(data, torch.device("meta"))
    assert placed.image is data.image
    assert placed.label.device.type == "meta"
    found = list(eval_batches(placed, 4))
    assert [(batch.image.device.type, len(batch.image), len(batch.label)) for batch in found] == [
        ("meta", 4, 4),
        ("meta", 4, 4),
        ("meta", 2, 2),
    ]


def test_ahead_keeps_order_and_makes_only_one_item_more() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    source = ahead(items())
    assert next(source) == 0
    assert next(source) == 1
    source.close()  # waits for the one that was under way
    assert made == [0, 1, 2]
    assert list(ahead(items())) == [0, 1, 2, 3, 4]
    assert list(ahead(iter(()))) == []


def test_ahead_passes_on_what_goes_wrong() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("the disk is gone")

    source = ahead(broken())
    assert next(source) == 1
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(source)


@pytest.mark.gpu
@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("recipe", ["none", "flips", "released"])
def test_batches_on_a_gpu_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch, stays: bool, recipe: str) -> None:
    monkeypatch.setattr(batches, "fits", lambda split, device: not stays)
    data = split(64)
    data = Split(
        torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8), data.label, data.attributes, data.id, data.unit
    )
    there = place(data, torch.device("cuda"))
    assert there.image.is_cuda is not stays
    for left, right in zip(
        TrainFeed(there, plan(16, recipe), None)(1, 2), TrainFeed(data, plan(16, recipe), None)(1, 2), strict=True
    ):
        assert left.image.is_cuda
        assert left.label.tolist() == right.label.tolist()
        torch.testing.assert_close(left.image.cpu(), right.image, rtol=0, atol=2e-3)


@pytest.mark.parametrize("recipe", ["flips", "released"])
def test_the_middle_of_a_training_run_draws_what_an_undisturbed_one_draws(recipe: str) -> None:
    """Epoch 3 is the same whether epochs 0 to 2 were drawn before it or not."""
    data = split(40)
    data = Split(data.image.repeat(1, 1, 8, 8), data.label, data.attributes, data.id, data.unit)
    whole, resumed = (TrainFeed(data, plan(8, recipe), torch.ones(40)) for _ in range(2))
    epochs = [[batch.image for batch in whole(9, number)] for number in range(4)]
    for left, right in zip(epochs[3], resumed(9, 3), strict=True):
        assert torch.equal(left, right.image)
    assert not torch.equal(torch.cat(epochs[2]), torch.cat(epochs[3]))
