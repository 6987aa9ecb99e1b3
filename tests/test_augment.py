"""Augmentation: each step is PIL's or torchvision's of one image at a time, and each sample has its own draws."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from scp_ray.data.augment import augment, autoaugment, colour, geometry, recipe

ROOT = Path(__file__).parents[1]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int = 40, seed: int = 0) -> Tensor:
    """(count, 3, side, side) uint8: waves of every brightness and colour with some grain, each row with its own."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves, scale, shift = generator.uniform((1, 1, 0), (4, 4, 7), (count, 3, 3)).T[..., None, None].swapaxes(1, 2)
    smooth = np.sin(waves * x + scale * y + shift)
    span = generator.uniform(40, 120, (count, 3, 1, 1))
    middle = generator.uniform(60, 190, (count, 3, 1, 1))
    return torch.from_numpy(
        (middle + span * smooth + generator.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)
    )


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def from_pil(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def each(images: Tensor, change: Callable[..., Image.Image], magnitudes: Tensor | None = None) -> Tensor:
    """PIL's ``change`` of each image, (N, 3, S, S) int."""
    values = [()] * len(images) if magnitudes is None else [(float(value),) for value in magnitudes]
    return torch.stack([from_pil(change(to_pil(i), *value)) for i, value in zip(images, values, strict=True)]).int()


def levels(images: Tensor) -> Tensor:
    return (images * 255).round().int()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# ---- changes of levels: equal to PIL ----


def odd_pictures() -> Tensor:
    """Also one level only, two levels, few dark levels, all 256, and one that is white but for a pixel."""
    images = pictures(12)
    images[0] = torch.tensor([0, 7, 255], dtype=torch.uint8)[:, None, None]
    images[1] = torch.where(images[1] > 128, 200, 3)
    images[2] //= 16
    images[3] = (torch.arange(1600) % 256).view(40, 40)
    images[4] = 255
    images[4, :, 3, 5] = 254
    return images


def PIL_solarize(image: Image.Image, threshold: float) -> Image.Image:
    return ImageOps.solarize(image, threshold)  # type: ignore[arg-type]


LEVEL_CHANGES = {
    "Invert": (lambda image, _: ImageOps.invert(image), torch.zeros(12)),
    "Equalize": (lambda image, _: ImageOps.equalize(image), torch.zeros(12)),
    "AutoContrast": (lambda image, _: ImageOps.autocontrast(image), torch.zeros(12)),
    "Solarize": (PIL_solarize, torch.tensor([0, 7, 51.2, 12.5, 254, 1, 76.8, 100, 128, 200.7, 255, 256])),
    "Posterize": (
        lambda image, bits: ImageOps.posterize(image, round(bits)),
        torch.tensor([4, 7.2, 6.8, 1, 2, 3, 4.4, 4.6, 5, 6, 8, 7]),
    ),
}


@pytest.mark.parametrize("name", LEVEL_CHANGES)
def test_changes_of_levels_equal_pil(name: str) -> None:
    change, magnitude = LEVEL_CHANGES[name]
    images = odd_pictures()
    ours = autoaugment.OPERATIONS[name].change(images.float() / 255, magnitude)
    torch.testing.assert_close(ours * 255, each(images, change, magnitude).float(), rtol=0, atol=1e-4)


def test_autocontrast_equals_pil_for_every_pair_of_ends() -> None:
    """Where a mapped level is near a whole number, float32 and float64 part."""
    generator = np.random.default_rng(1)
    ends = np.sort(generator.choice(256, (300, 2)), axis=1)
    images = torch.from_numpy(generator.integers(ends[:, :1], ends[:, 1:] + 1, (300, 3 * 256)).astype(np.uint8))
    images = images.view(300, 3, 16, 16)
    ours = colour.autocontrast(images.float() / 255, torch.zeros(300))
    assert torch.equal(levels(ours), each(images, ImageOps.autocontrast))


def test_levels_are_rounded_not_cut() -> None:
    between = torch.tensor([99.6, 100.4]).view(1, 1, 1, 2).expand(1, 3, 2, 2) / 255
    threshold = torch.tensor([100.0])
    torch.testing.assert_close(colour.solarize(between.clone(), threshold), torch.full((1, 3, 2, 2), 155 / 255))
    torch.testing.assert_close(colour.posterize(between, torch.tensor([8.0])), torch.full((1, 3, 2, 2), 100 / 255))


# ---- changes by a factor: PIL's but for its rounding ----

ENHANCERS = {
    "Contrast": ImageEnhance.Contrast,
    "Color": ImageEnhance.Color,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}


@pytest.mark.parametrize("name", ENHANCERS)
def test_changes_by_a_factor_are_within_one_level_of_pil(name: str) -> None:
    images = odd_pictures()
    factor = torch.tensor([0.1, 0.28, 0.3, 0.5, 0.7, 0.9, 1.0, 1.2, 1.4, 1.6, 1.8, 1.9])
    ours = autoaugment.OPERATIONS[name].change(images.float() / 255, factor)
    theirs = each(images, lambda image, value: ENHANCERS[name](image).enhance(value), factor)
    assert 0 <= ours.min() <= ours.max() <= 1
    assert (levels(ours) - theirs).abs().max() <= 1


def test_factors_by_hand() -> None:
    """Red 0.8, green 0.6, blue 0.4 has grey 0.2392 + 0.3522 + 0.0456 = 0.637."""
    pixel = torch.tensor([0.8, 0.6, 0.4]).view(1, 3, 1, 1)
    half, more = torch.tensor([0.5]), torch.tensor([1.5])
    torch.testing.assert_close(colour.saturate_(pixel.clone(), half).flatten(), torch.tensor([0.7185, 0.6185, 0.5185]))
    torch.testing.assert_close(colour.saturate_(pixel.clone(), more).flatten(), torch.tensor([0.8815, 0.5815, 0.2815]))
    torch.testing.assert_close(colour.brighten_(pixel.clone(), half).flatten(), torch.tensor([0.4, 0.3, 0.2]))
    torch.testing.assert_close(colour.brighten_(pixel.clone(), more).flatten(), torch.tensor([1.0, 0.9, 0.6]))
    # one bright pixel in the middle of 3 x 3: smoothed it is 5/13 of itself, and the border stays as it is
    dot = torch.zeros(1, 3, 3, 3)
    dot[..., 1, 1] = 0.5
    dot[..., 0, 0] = 0.25
    sharp = colour.sharpen_(dot.clone(), torch.tensor([0.0]))
    torch.testing.assert_close(sharp[0, :, 1, 1], torch.full((3,), (5 * 0.5 + 0.25) / 13))
    sharp[..., 1, 1] = 0.5
    assert torch.equal(sharp, dot)
    # grey levels 0 and 100 have mean 50
    pair = torch.tensor([0.0, 100.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2) / 255
    flat = colour.contrast_(pair.clone(), half) * 255
    torch.testing.assert_close(flat, torch.tensor([25.0, 75.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2))


def test_jitter_orders_by_hand() -> None:
    """(1, 0.5, 0.5) brightened by 1.1 is cut to (1, 0.55, 0.55), with grey 0.68455; before it the grey is 0.6495."""
    pixels = torch.tensor([1.0, 0.5, 0.5]).view(1, 3, 1, 1).repeat(50, 1, 1, 1)
    colour.jitter_(pixels, torch.full((50,), 1.1), torch.full((50,), 0.5), torch.arange(50) < 23)
    jittered = pixels.flatten(1)
    torch.testing.assert_close(jittered[:23], torch.tensor([0.842275, 0.617275, 0.617275]).expand(23, 3))
    torch.testing.assert_close(jittered[23:], torch.tensor([0.907225, 0.632225, 0.632225]).expand(27, 3))


# ---- maps ----

PIL_MAPS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Rotate": lambda image, angle: image.rotate(angle),
    "TranslateX": lambda image, t: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, t * image.width, 0, 1, 0)
    ),
    "TranslateY": lambda image, t: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, t * image.height)
    ),
    "ShearY": lambda image, slope: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, slope, 1, 0)),
}


@pytest.mark.parametrize("name", PIL_MAPS)
@pytest.mark.parametrize("side", [40, 41])
def test_maps_of_autoaugment_equal_pil_but_at_ties(name: str, side: int) -> None:
    operation = autoaugment.OPERATIONS[name]
    images = pictures(9, side)
    magnitude = torch.linspace(operation.low, operation.high, 9) * 0.987 + 0.001  # no whole or half pixels
    ours = levels(operation.change(images.float() / 255, magnitude))
    theirs = each(images, PIL_MAPS[name], magnitude)
    assert (ours != theirs).any(1).float().mean((1, 2)).max() < 0.02


@pytest.mark.parametrize(("flip_x", "flip_y"), [(False, False), (True, False), (False, True), (True, True)])
def test_affine_maps_are_torchvisions_of_pil_images(flip_x: bool, flip_y: bool) -> None:
    modes = [InterpolationMode.BICUBIC, InterpolationMode.NEAREST, InterpolationMode.BILINEAR] * 3
    images = pictures(9, 48)
    angle = torch.linspace(-175, 171, 9)
    scale = torch.tensor([0.8, 1.2, 1.0, 0.93, 1.13, 0.87, 1.05, 1.2, 0.9])
    shear = torch.tensor([-10, 10, 0, 5, -5, 8, -8, 3.0, -7])
    ours = geometry.warp_each_mode(
        images,
        geometry.flip_then_affine(torch.full((9,), flip_x), torch.full((9,), flip_y), angle, scale, shear),
        torch.tensor([geometry.MODES.index(mode.value) for mode in modes]),
    )
    for row, mode in enumerate(modes):
        picture = to_pil(images[row])
        picture = functional.hflip(picture) if flip_x else picture
        picture = functional.vflip(picture) if flip_y else picture
        how = {"angle": float(angle[row]), "scale": float(scale[row]), "shear": [float(shear[row]), 0.0]}
        moved = functional.affine(picture, translate=[0, 0], interpolation=mode, **how)
        white = functional.affine(Image.new("L", picture.size, 255), translate=[0, 0], **how)
        # PIL blackens what lies outside at once, we fade it over a pixel: the border is left out
        inside = -torch.nn.functional.max_pool2d(-torch.from_numpy(np.array(white)).float()[None], 5, 1, 2)[0] > 0
        inside[[0, 1, -2, -1]] = inside[:, [0, 1, -2, -1]] = False
        error = (levels(ours[row]) - from_pil(moved).int()).abs()[:, inside].float()
        assert inside.float().mean() > 0.3
        if mode is InterpolationMode.NEAREST:
            assert (error > 0).any(0).float().mean() < 0.005
        else:
            assert error.mean() < 0.6  # of levels; cutting off, as PIL does, makes 0.5


def test_each_row_is_resampled_in_its_own_mode() -> None:
    """Half a pixel to the left of black, white, black, ...: 0.5 between them, unless the nearest is taken."""
    side = 8
    stripes = torch.zeros(3, 3, side, side, dtype=torch.uint8)
    stripes[..., ::2] = 255
    maps = geometry.translation_x(torch.full((3,), 0.5001 / side))
    nearest, bilinear, bicubic = geometry.warp_each_mode(stripes, maps, torch.tensor([0, 1, 2]))[:, 0, 4]
    assert nearest[:7].tolist() == [0, 1, 0, 1, 0, 1, 0]
    torch.testing.assert_close(bilinear[:7], torch.full((7,), 0.5), rtol=0, atol=1e-3)
    torch.testing.assert_close(bicubic[2:5], torch.full((3,), 0.5), rtol=0, atol=1e-3)
    # in the middle of a stripe two wide the weights are 0.59375 each, and -0.09375 of what is 1.5 away
    wide = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    wide[0, ..., 3:5] = 200
    wide[1, ..., 3:5] = 250  # would be brighter than white
    maps = geometry.translation_x(torch.full((2,), 0.5 / side))
    middle = geometry.warp_each_mode(wide, maps, torch.tensor([2, 2]))
    torch.testing.assert_close(middle[0, :, 4, 3], torch.full((3,), 200 * 1.1875 / 255), rtol=0, atol=1e-4)
    assert (middle[1, :, 4, 3] == 1).all()
    assert (middle[:, :, 4, 1] == 0).all()  # darker than black


def test_what_lies_outside_is_black() -> None:
    white = torch.ones(2, 3, 10, 10)
    moved = geometry.warp(white, geometry.translation_x(torch.tensor([0.3, -0.3])))
    assert moved[0, 0, 0].tolist() == [1.0] * 7 + [0.0] * 3
    assert moved[1, 0, 0].tolist() == [0.0] * 3 + [1.0] * 7


# ---- AutoAugment ----


def test_policies_are_those_of_the_released_recipe(shared: Path) -> None:
    text = (shared / "spec" / "methods.md").read_text(encoding="utf-8").partition("AutoAugment: pick one")[2]
    table, _, text = text.partition("\n\n")[2].partition("\n\n")
    number = r"(-?\d*\.?\d+)"
    step = rf"\((\w+) {number} {number}\)"
    policies = re.findall(rf"(\d+) {step}{step}", table)
    assert [int(policy[0]) for policy in policies] == list(range(1, 26))
    read = tuple(((a, float(b), float(c)), (d, float(e), float(f))) for _, a, b, c, d, e, f in policies)
    assert read == autoaugment.POLICIES

    ranges = {name: (op.low, op.high) for name, op in autoaugment.OPERATIONS.items()}
    points = re.search(r"between grid points m and m\+1 of an (\d+)-point linear grid", text)
    assert points is not None
    assert int(points[1]) - 1 == autoaugment.STEPS
    shear, rotate = (
        float(found[1]) for found in (re.search(rf"{word} ±{number}", text) for word in ("shear", "rotate")) if found
    )
    top, bottom = re.search(r"translate ±(\d+)/(\d+) of the side", text).groups()  # type: ignore[union-attr]
    assert ranges["ShearY"] == (-shear, shear)
    assert ranges["Rotate"] == (-rotate, rotate)
    assert ranges["TranslateX"] == ranges["TranslateY"] == (-int(top) / int(bottom), int(top) / int(bottom))
    for words, names in (
        ("solarize", ["Solarize"]),
        ("posterize", ["Posterize"]),
        ("contrast, colour, brightness and sharpness factor", ["Contrast", "Color", "Brightness", "Sharpness"]),
    ):
        ends = re.search(rf"{words} (\d*\.?\d+)-(\d*\.?\d+)", text)
        assert ends is not None
        assert {ranges[name] for name in names} == {(float(ends[1]), float(ends[2]))}


def by_pil(image: Image.Image, name: str, magnitude: float) -> Image.Image:
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(magnitude)
    return (PIL_MAPS | {key: change for key, (change, _) in LEVEL_CHANGES.items()})[name](image, magnitude)


ENDS = {"ShearY": (-0.3, 0.3), "Rotate": (-30, 30), "Solarize": (0, 256), "Posterize": (4, 8)}
ENDS |= dict.fromkeys(("TranslateX", "TranslateY"), (-150 / 331, 150 / 331)) | dict.fromkeys(ENHANCERS, (0.1, 1.9))


@pytest.mark.parametrize("taken", [(True, True), (True, False), (False, True), (False, False)])
def test_each_policy_is_its_two_steps_one_after_the_other(taken: tuple[bool, bool]) -> None:
    along = torch.rand(2, 25, generator=seeded(5))
    chance = torch.tensor([[0.0 if take else 0.95] for take in taken]).expand(2, 25)
    images = pictures(25, 40)
    ours = images.float() / 255
    autoaugment.autoaugment_(ours, torch.arange(25), chance, along)
    for row, policy in enumerate(autoaugment.POLICIES):
        picture = to_pil(images[row])
        for take, (name, probability, point), far in zip(taken, policy, along[:, row], strict=True):
            low, high = np.linspace(*ENDS.get(name, (0, 0)), 11)[[int(point), int(point) + 1]]
            if take and probability:
                picture = by_pil(picture, name, low + float(far) * (high - low))
        error = (levels(ours[row]) - from_pil(picture).int()).abs().float()
        # PIL rounds between the steps, which an equalising step makes more of
        assert error.mean() < 1.2, policy
        if taken == (False, False):
            assert error.max() == 0


def test_a_step_is_taken_with_its_probability() -> None:
    """Policy 1 inverts with probability 0.1: black turns white, and its second step changes neither."""
    black = torch.zeros(4000, 3, 2, 2)
    autoaugment.autoaugment_(
        black, torch.zeros(4000, dtype=torch.long), torch.rand(2, 4000, generator=seeded()), torch.rand(2, 4000)
    )
    assert set(black.unique().tolist()) == {0.0, 1.0}
    assert abs(black[:, 0, 0, 0].mean() - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5


# ---- Cutout ----


@pytest.mark.parametrize(
    ("x", "y", "columns", "rows"),
    [
        (20, 10, (12, 28), (2, 18)),  # 8 before the centre, 7 after it
        (0, 31, (0, 8), (23, 32)),
        (31, 0, (23, 32), (0, 8)),
        (8, 24, (0, 16), (16, 32)),
    ],
)
def test_cutout_is_a_square_clipped_at_the_borders(
    x: int, y: int, columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    white = torch.ones(2, 3, 32, 32)
    geometry.cutout_(white, torch.tensor([x, 16]), torch.tensor([y, 16]))
    expected = torch.ones(3, 32, 32)
    expected[:, slice(*rows), slice(*columns)] = 0
    assert torch.equal(white[0], expected)
    assert (white[1] == 0).sum() == 3 * 16 * 16  # and the other sample has its own


def test_cutout_of_a_picture_smaller_than_the_square() -> None:
    white = torch.ones(1, 3, 10, 10)
    geometry.cutout_(white, torch.tensor([9]), torch.tensor([0]))
    assert (white == 1).nonzero()[:, 2:].tolist() == 3 * [
        [r, c] for r in range(10) for c in range(10) if r > 7 or c < 1
    ]


# ---- the draws ----


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of the recipe's steps, which run as ever."""
    seen: dict[str, Any] = {}

    def listen(name: str) -> None:
        step = getattr(recipe, name)

        def heard(*values: Any, **named: Any) -> Any:
            seen[name] = named or values
            return step(*values, **named)

        monkeypatch.setattr(recipe, name, heard)

    for name in ("flip_then_affine", "warp_each_mode", "jitter_", "autoaugment_", "cutout_"):
        listen(name)
    return seen


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """All between the ends, and each of ten equal parts holds a tenth."""
    assert low <= values.min()
    assert values.max() <= high
    shares = torch.histc((values - low) / (high - low), 10, 0, 1) / len(values)
    assert (shares - 0.1).abs().max() < 4 * (0.1 * 0.9 / len(values)) ** 0.5


def assert_even(values: Tensor, choices: int) -> None:
    shares = torch.bincount(values.long(), minlength=choices) / len(values)
    assert len(shares) == choices
    assert (shares - 1 / choices).abs().max() < 4 * (1 / choices / len(values)) ** 0.5


def test_draws_are_spread_as_the_recipe_says(drawn: dict[str, Any]) -> None:
    augment(torch.zeros(6000, 3, 20, 20, dtype=torch.uint8), "released", seeded(3))
    affine = drawn["flip_then_affine"]
    assert_even(affine["flip_x"], 2)
    assert_even(affine["flip_y"], 2)
    assert_uniform(affine["angle"], -180, 180)
    assert_uniform(affine["scale"], 0.8, 1.2)
    assert_uniform(affine["shear"], -10, 10)
    _, maps, mode = drawn["warp_each_mode"]
    assert (maps[:, :, 2] == 0).all()  # no translation
    assert_even(mode, 3)

    jitter = drawn["jitter_"]
    assert_uniform(jitter["brightness"], 1 - 32 / 255, 1 + 32 / 255)
    assert_uniform(jitter["saturation"], 0.5, 1.5)
    assert_even(jitter["brightness_first"], 2)

    policy = drawn["autoaugment_"]
    assert_even(policy["policy"], 25)
    for values in (*policy["chance"], *policy["along"]):
        assert_uniform(values, 0, 1)

    cut = drawn["cutout_"]
    assert_even(cut["x"], 20)
    assert_even(cut["y"], 20)

    numbers = [*affine.values(), mode, *jitter.values(), policy["policy"]]
    numbers += [*policy["chance"], *policy["along"], *cut.values()]
    table = torch.corrcoef(torch.stack([value.double() for value in numbers])).fill_diagonal_(0)
    assert table.abs().max() < 5 / 6000**0.5  # no draw serves two ends


def test_what_is_drawn_is_what_is_done(drawn: dict[str, Any]) -> None:
    """A white picture is black in the cut-out square, and elsewhere not."""
    changed = augment(torch.full((50, 3, 64, 64), 255, dtype=torch.uint8), "released", seeded())
    x, y = drawn["cutout_"]["x"], drawn["cutout_"]["y"]
    for row in range(50):
        square = changed[row, :, max(0, y[row] - 8) : y[row] + 8, max(0, x[row] - 8) : x[row] + 8]
        assert square.shape[1] * square.shape[2] <= 256
        assert square.max() == 0
    assert changed.mean() > 0.4


def test_a_mark_is_turned_to_every_side_and_half_of_the_pictures_are_mirrored() -> None:
    """A red mark above the centre, a green one to its right: where red goes, and on which side of it green is."""
    count, side = 1500, 48
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    image[0, 8:14, 21:27] = 255
    image[1, 21:27, 34:40] = 255
    changed = augment(image.expand(count, -1, -1, -1), "released", seeded(1)).double()
    place = torch.arange(side) - (side - 1) / 2
    contrast = (changed[:, 0] - changed[:, 1]).clamp(min=0), (changed[:, 1] - changed[:, 0]).clamp(min=0)
    (red_x, red_y), (green_x, green_y) = (
        ((mark.sum(1) * place).sum(1), (mark.sum(2) * place).sum(1)) for mark in contrast
    )
    seen = (contrast[0].sum((1, 2)) > 3) & (contrast[1].sum((1, 2)) > 3)
    assert seen.double().mean() > 0.6  # neither cut out nor turned grey
    angle = torch.atan2(red_y, red_x)[seen]
    sectors = torch.histc(angle, 12, -math.pi, math.pi) / len(angle)
    assert (sectors - 1 / 12).abs().max() < 4 * (1 / 12 / len(angle)) ** 0.5
    mirrored = ((red_x * green_y - red_y * green_x)[seen] < 0).double().mean()
    assert abs(mirrored - 0.5) < 4 * (0.25 / len(angle)) ** 0.5


@pytest.mark.parametrize("recipe_name", ["released", "flips"])
def test_each_sample_has_its_own_draw(recipe_name: Any) -> None:
    image = pictures(1, 24)
    changed = augment(image.expand(40, -1, -1, -1), recipe_name, seeded())
    different = {tuple(sample.flatten().tolist()) for sample in changed}
    assert len(different) == (40 if recipe_name == "released" else 4)


@pytest.mark.parametrize("recipe_name", ["released", "flips"])
def test_the_generator_alone_decides(recipe_name: Any) -> None:
    images = pictures(16, 20)
    first = augment(images, recipe_name, seeded(4))
    torch.rand(3)  # the default stream has no part in it
    before = torch.get_rng_state()
    assert torch.equal(augment(images, recipe_name, seeded(4)), first)
    assert not torch.equal(augment(images, recipe_name, seeded(5)), first)
    generator = seeded(4)
    assert torch.equal(augment(images, recipe_name, generator), first)
    assert not torch.equal(augment(images, recipe_name, generator), first)  # the next batch goes on in the stream
    assert torch.equal(torch.get_rng_state(), before)


def test_the_amount_drawn_depends_on_the_count_alone() -> None:
    def left(images: Tensor, recipe_name: Any) -> float:
        generator = seeded(9)
        augment(images, recipe_name, generator)
        return float(torch.rand(1, generator=generator, dtype=torch.float64))

    for recipe_name in ("released", "flips", "none"):
        contents = [pictures(6, 20), pictures(6, 20, seed=1), torch.zeros(6, 3, 33, 33, dtype=torch.uint8)]
        assert len({left(images, recipe_name) for images in contents}) == 1
    assert left(pictures(6, 20), "released") != left(pictures(7, 20), "released")


# ---- the whole ----


def test_flips_and_none_by_numpy() -> None:
    images = pictures(64, 7)
    generator = seeded(2)
    x, y = torch.rand(64, generator=generator) < 0.5, torch.rand(64, generator=generator) < 0.5
    expected = []
    for image, mirror_x, mirror_y in zip(images.numpy(), x, y, strict=True):
        image = image[:, :, ::-1] if mirror_x else image
        expected.append(image[:, ::-1] if mirror_y else image)
    assert torch.equal(augment(images, "flips", seeded(2)), torch.from_numpy(np.stack(expected)).float() / 255)
    assert torch.equal(augment(images, "none", seeded(2)), images.float() / 255)


@pytest.mark.parametrize("recipe_name", ["released", "flips", "none"])
@pytest.mark.parametrize(("count", "side"), [(1, 32), (60, 1), (60, 2), (60, 5), (30, 15), (30, 16), (12, 65)])
def test_any_size_gives_finite_values_from_0_to_1(recipe_name: Any, count: int, side: int) -> None:
    images = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=seeded())
    before = images.clone()
    generator = seeded(1)
    for _ in range(200 // count):
        changed = augment(images, recipe_name, generator)
        assert changed.dtype == torch.float32
        assert changed.shape == images.shape
        assert changed.isfinite().all()
        assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(images, before)


def test_channels_last_and_cut_batches_give_the_same() -> None:
    images = pictures(20, 24)
    expected = augment(images, "released", seeded())
    assert torch.equal(augment(images.to(memory_format=torch.channels_last), "released", seeded()), expected)
    wide = torch.cat([images, images], 3)
    assert torch.equal(augment(wide[..., :24], "released", seeded()), expected)


@pytest.mark.parametrize(("count", "side"), [(1, 224), (40, 131)])
def test_threads_change_nothing(threads: Callable[[int], None], count: int, side: int) -> None:
    images = pictures(count, side)
    maps = torch.rand(count, generator=seeded())
    changes = [lambda: augment(images, "released", seeded(6)), lambda: augment(images, "flips", seeded(6))]
    changes += [
        lambda name=name: autoaugment.OPERATIONS[name].change(images.float() / 255, maps)
        for name in autoaugment.OPERATIONS
    ]
    results = []
    for number in (1, 2, 3):
        threads(number)
        results.append([change() for change in changes])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("recipe_name", ["released", "flips", "none"])
def test_nothing_waits_for_the_device(recipe_name: Any) -> None:
    """A tensor on the device "meta" has no contents: reading any of them raises."""
    generator, other = seeded(), seeded()
    changed = augment(torch.zeros(80, 3, 20, 20, dtype=torch.uint8, device="meta"), recipe_name, generator)
    assert (changed.device.type, changed.dtype, changed.shape) == ("meta", torch.float32, (80, 3, 20, 20))
    augment(pictures(80, 20), recipe_name, other)
    assert torch.equal(generator.get_state(), other.get_state())  # the same draws on any device


def test_only_bytes_are_taken() -> None:
    with pytest.raises(TypeError, match=r"uint8 images with levels 0 to 255, got torch\.float32"):
        augment(torch.rand(2, 3, 4, 4), "none", seeded())


def test_import_loads_no_image_library() -> None:
    code = "import sys, scp_ray.data.augment; print({'torchvision', 'PIL', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
