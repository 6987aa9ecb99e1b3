"""The released way of feeding a GPU against ours: JPEG files by Pillow in 2 workers, or the store, and the same model.

Run: python -m benchmarks.gpu_pipeline [--pictures DIR] [--count N] [--batch N]
Files of the size that ISIC 2019 has, VGG-11 at 128 px, the released augmentation. The released way: a DataLoader with 2
workers, transforms image by image, float32 steps. Ours: ``fit_`` on the store. Goal: at least 5 times the images per
second.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.data_reads import released_transforms
from benchmarks.measure import arguments, camera_files, in_turns, tell
from benchmarks.stores import CLASSES, store_of
from scp_ray.backbones.base import backbones
from scp_ray.data.batches import TrainFeed, place
from scp_ray.loop.fit import fit_
from scp_ray.parts import Batch, Learner, TrainPlan

SIZE = 128


class Files(Dataset[tuple[Tensor, int, int]]):
    """Decoded and transformed one by one."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._transform = released_transforms(SIZE)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image: Tensor = self._transform(Image.open(self._files[index]).convert("RGB"))
        return image, index % CLASSES, index // CLASSES % 2


def main() -> None:
    """An epoch of each in turns."""
    options = arguments(__doc__ or "", count=4096, batch=256, repeats=5, anywhere=0)
    if not torch.cuda.is_available() and not options.anywhere:
        sys.exit("there is no GPU here: this figure is of one (--anywhere 1 only tries the code).")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = Learner(*backbones.get("vgg11")().build(CLASSES, image_size=SIZE, seed=0)).to(device).train()
    plan = TrainPlan(epochs=1, batch_size=options.batch, augment="released")
    optimizers, generator = learner.optimizers(plan), torch.Generator()
    with tempfile.TemporaryDirectory() as scratch:
        files = camera_files(options.pictures, Path(scratch) / "images", options.count + 32)
        train = place(store_of(Path(scratch), files, SIZE).splits["train"], device)
        feed = TrainFeed(train, plan, None)
        loader = DataLoader(Files(files[32:]), options.batch, shuffle=True, num_workers=2, drop_last=True)

        def released() -> None:
            for image, label, group in loader:
                batch = Batch(image, label, group, group[:, None]).to(device)
                learner.training_step_(batch, optimizers, generator)

        ours, theirs = in_turns(
            lambda: fit_(learner, feed, replace(plan, epochs=1), seed=0), released, repeats=options.repeats
        )
    images = options.count - options.count % options.batch
    tell(what="gpu_pipeline", batch=options.batch, ours_images_s=round(images / ours, 1),
         released_images_s=round(images / theirs, 1), ratio=round(theirs / ours, 2), goal=5)  # fmt: skip


if __name__ == "__main__":
    main()
