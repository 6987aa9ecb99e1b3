"""What others hand to the page: pictures, tables, test numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Picture:
    """A figure that was drawn elsewhere."""

    name: str  # letters, digits and '-': its place on the page
    title: str
    caption: str
    svg: str  # a whole SVG document


@dataclass(frozen=True)
class PageTable:
    """A table that was made elsewhere: shown as it is, its columns in their order."""

    title: str
    caption: str
    frame: pd.DataFrame
    sortable: bool = True  # False: its rows belong together in their order


@dataclass(frozen=True)
class TestSection:
    """Test numbers of what validation has selected; whoever hands them over has counted the look."""

    __test__ = False  # no test of pytest's

    frame: pd.DataFrame
    words: str  # the selection rule, from how many configurations, how often test numbers were shown
