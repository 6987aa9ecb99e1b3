"""Batches from the store against decoding the JPEG files with PIL and torchvision's transforms, image by image.

Run: python -m benchmarks.data_reads [--pictures DIR] [--count N] [--threads T]
One process each way; the files have the size of ISIC 2019's (600 x 450). Goals: at least 20 times for plain reads, 5
times with the whole augmentation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    CenterCrop,
    ColorJitter,
    Compose,
    InterpolationMode,
    RandomAffine,
    RandomChoice,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    Resize,
    ToTensor,
)

from benchmarks.measure import arguments, camera_files, in_turns, tell
from benchmarks.stores import store_of
from scp_ray.data.batches import TrainFeed, eval_batches
from scp_ray.parts import TrainPlan

SIZE, BATCH = 128, 128


def main() -> None:
    """Measure both ways and print the ratios."""
    options = arguments(__doc__ or "", count=512, threads=1)
    torch.set_num_threads(options.threads)
    plain = Compose([Resize(SIZE), CenterCrop(SIZE), ToTensor()])
    augmented = released_transforms(SIZE)
    with tempfile.TemporaryDirectory() as scratch:
        files = camera_files(options.pictures, Path(scratch) / "images", options.count)
        split = store_of(Path(scratch), files, SIZE).splits["train"]
        feed = TrainFeed(split, TrainPlan(batch_size=BATCH, augment="released"), None)

        def from_files(transform: Compose) -> None:
            for start in range(0, len(split), BATCH):
                torch.stack([transform(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]])

        for name, ours, theirs, goal in (
            ("plain reads", lambda: list(map(len, eval_batches(split, BATCH))), lambda: from_files(plain), 20),
            ("full augmentation", lambda: [len(b.label) for b in feed(0, 0)], lambda: from_files(augmented), 5),
        ):
            mine, other = in_turns(ours, theirs)
            rates = [len(split) / mine, len(split) / other]
            tell(what=name, store_images_s=round(rates[0]), files_images_s=round(rates[1]),
                 ratio=round(rates[0] / rates[1], 2), goal=goal)  # fmt: skip


def released_transforms(size: int) -> Compose:
    """The released augmentation, image by image, with torchvision's transforms."""
    modes = (InterpolationMode.NEAREST, InterpolationMode.BICUBIC, InterpolationMode.BILINEAR)
    affine = [RandomAffine(180, scale=(0.8, 1.2), shear=10, interpolation=mode) for mode in modes]
    flips = (RandomCrop(size), RandomHorizontalFlip(), RandomVerticalFlip())
    colours = (ColorJitter(brightness=32 / 255, saturation=0.5), AutoAugment(AutoAugmentPolicy.CIFAR10))
    cutout = RandomErasing(p=1, scale=(1 / 64, 1 / 64), ratio=(1, 1))
    return Compose([Resize(size), *flips, RandomChoice(affine), *colours, ToTensor(), cutout])


if __name__ == "__main__":
    main()
