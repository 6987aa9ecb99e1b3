"""A figure with what belongs to it: its title, its caption, the numbers it shows; and its files."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ParamSpec

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from scp_ray.errors import ScpError
from scp_ray.ledger.files import write_bytes
from scp_ray.places import AnyPath
from scp_ray.report.figures.style import GROUND, captioned

DOTS = 300  # per inch, of a PNG
P = ParamSpec("P")
ON_SCREEN = 125  # pixels for an inch of it in a notebook


class NotDrawnError(ScpError):
    """A figure that this sweep has nothing for, and why."""


@dataclass(frozen=True)
class Drawn:
    """One figure. Its caption says n, seeds, split, selection rule, and what bands, bars and marks are."""

    name: str  # stem of its files
    title: str
    caption: str
    figure: Figure  # without the caption
    data: pd.DataFrame  # the numbers drawn

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """A notebook shows the figure with its caption, at a size that its small letters can be read at."""
        picture = picture_of(self, "png", caption=True)
        return picture, {"width": round(ON_SCREEN * float(self.figure.get_size_inches()[0]))}


@dataclass(frozen=True)
class Undrawn:
    """In the place of a figure: why there is none."""

    why: str

    @property
    def data(self) -> pd.DataFrame:
        """Nothing."""
        return pd.DataFrame()

    def __repr__(self) -> str:
        return f"Not drawn: {self.why}"


def drawn_or_why(draw: Callable[P, Drawn], *arguments: P.args, **named: P.kwargs) -> Drawn | Undrawn:
    """The figure that ``draw`` makes of these arguments, else what it says of why it cannot."""
    try:
        return draw(*arguments, **named)
    except ScpError as error:
        return Undrawn(str(error))


def save_drawn(drawn: Drawn, folder: AnyPath) -> list[AnyPath]:
    """Write name.png, name.svg (both with the caption below) and name.csv; returns their paths. Raises LedgerError."""
    contents = {
        "png": picture_of(drawn, "png", caption=True),
        "svg": picture_of(drawn, "svg", caption=True),
        "csv": drawn.data.to_csv(index=False).encode(),
    }
    paths = []
    for kind, content in contents.items():
        paths.append(folder / f"{drawn.name}.{kind}")
        write_bytes(paths[-1], content)
    return paths


def svg_of(drawn: Drawn) -> str:
    """For a page that sets the caption itself: an <svg> element, its text as text, its ids told apart by name."""
    text = picture_of(drawn, "svg", caption=False).decode()
    return text[text.index("<svg") :]


def picture_of(drawn: Drawn, kind: str, *, caption: bool) -> bytes:
    """PNG or SVG; a figure that is made again of the same numbers gives the same bytes."""
    picture = io.BytesIO()
    # the salt makes ids of one figure differ from another's in the same page, and the same in every run
    rc = {"svg.fonttype": "none", "svg.hashsalt": drawn.name}
    metadata = {"svg": {"Date": None, "Title": drawn.title}, "png": {"Title": drawn.title}}[kind]
    with matplotlib.rc_context(rc), captioned(drawn.figure, drawn.caption) if caption else nullcontext():
        drawn.figure.savefig(picture, format=kind, dpi=DOTS, facecolor=GROUND, metadata=metadata)
    return picture.getvalue()
