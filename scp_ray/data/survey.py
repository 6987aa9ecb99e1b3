"""What is found of each listed row and what is done about it."""

from __future__ import annotations

import numpy as np
import pandas as pd

KEPT_FIRST = ("test", "val", "train")  # of duplicates: the published test rows stay what they are


def no_facts(files: pd.Series) -> pd.DataFrame:
    """Facts of files that nobody looked at."""
    nothing = {"digest": "", "kind": "", "rotated": False, "problem": "", "truncated": False, "alike": -1}
    return pd.DataFrame(nothing, index=files)


def duplicates_of(ids: pd.Series, alike: pd.Series) -> pd.Series:
    """(N,) the first id of each group of duplicates; empty for an image that is like no other.

    Args:
        ids: of the images.
        alike: codes that duplicates share; negative where nothing is known.
    """
    known = alike.to_numpy() >= 0
    first = ids[known].groupby(alike[known]).transform("first")
    several = ids[known].groupby(alike[known]).transform("size") > 1
    return first[several].reindex(ids.index, fill_value="").astype(str)


def first_known(*columns: pd.Series) -> pd.Series:
    """(N,) text: of each row the first that is not empty."""
    chosen = columns[0]
    for column in columns[1:]:
        chosen = chosen.where(chosen != "", column)
    return chosen


def drop_(table: pd.DataFrame, rows: pd.Series, reason: str) -> None:
    """Mark rows as not used; a row keeps the first reason."""
    table.loc[rows & (table["dropped"] == ""), "dropped"] = reason


def repeated(table: pd.DataFrame) -> pd.Series:
    """Duplicates of a row that is kept."""
    usable = table[(table["dropped"] == "") & (table["duplicate"] != "")]
    ranked = usable.iloc[np.argsort(usable["split"].map(KEPT_FIRST.index).to_numpy(), kind="stable")]
    return pd.Series(table.index.isin(ranked.index[ranked["duplicate"].duplicated()]), index=table.index)


def why_dropped(survey: pd.DataFrame) -> str:
    """In brackets how many rows each reason took; nothing where none was dropped."""
    reasons = survey.loc[survey["dropped"] != "", "dropped"].value_counts()
    counts = ", ".join(f"{count:,} dropped: {reason}" for reason, count in reasons.items())
    return f" ({counts})" if counts else ""
