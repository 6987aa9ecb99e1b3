"""A contact sheet: a row per image, as stored and as training sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from scp_ray.data.page import Page

INCH = 1.1  # a side of each picture
LETTERS = 22  # of a caption's line


def draw_samples(page: Page, title: str) -> Figure:
    """A figure of ``page.images`` (rows, columns, 3, S, S); a row's caption stands at its left."""
    rows, columns = page.images.shape[:2]
    figure = Figure(figsize=(INCH * (columns + 1.2), INCH * rows + 0.5), dpi=150)
    figure.suptitle(title, fontsize=9)
    grid = figure.add_gridspec(
        rows, columns, left=1.2 / (columns + 1.2), right=0.995, bottom=0.005, top=1 - 0.4 / (INCH * rows + 0.5),
        wspace=0.04, hspace=0.04,
    )  # fmt: skip
    for row in range(rows):
        for column in range(columns):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(page.images[row, column].permute(1, 2, 0).numpy())
            axes.set_axis_off()
            if column == 0:
                lines = [_cut(line) for line in page.captions[row].splitlines()]
                axes.text(-0.06, 0.5, "\n".join(lines), transform=axes.transAxes, ha="right", va="center", fontsize=6)
    return figure


def _cut(line: str) -> str:
    return line if len(line) <= LETTERS else f"{line[: LETTERS - 3]}..."
