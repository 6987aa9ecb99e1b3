"""What is wrong with a data set, by name and number, and what is done about it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from scp_ray.parts import SPLITS

THIN = 5  # images a (class, group) cell should have at least
SHOWN = 5  # names in a sentence
GROUPS = (0, 1)

Names = list[str]
Cell = tuple[str, int]  # class name, group code


@dataclass(frozen=True)
class Health:
    """Counts are of the rows that are used, unless a field says otherwise; images go by their ids."""

    images_checked: bool
    listed: int  # rows of the tables
    splits: dict[str, int]  # rows each
    classes: dict[str, dict[str, int]]  # split -> class -> rows
    groups: dict[str, dict[int, int]]  # split -> code -> rows
    absent_cells: dict[str, list[Cell]]  # split -> cells without a row
    thin_cells: dict[str, list[tuple[str, int, int]]]  # split -> cells of 1 to THIN - 1 rows, with their count
    unknown_group: dict[str, int]  # split -> listed rows whose group the table does not say
    unknown_rule: str  # what is done with them
    leakage: dict[str, int]  # "train-test": rows of the second whose lesion or duplicate is in the first
    missing: Names
    unreadable: dict[str, str]  # id -> why; truncated ones among them
    truncated: Names
    converted: dict[str, Names]  # greyscale, cmyk, rgba, other: to RGB; exif_rotated: turned upright
    duplicates: list[Names]  # groups of the same picture, among all listed rows
    duplicates_with_other_label: int  # groups whose rows have more than one label
    dropped: dict[str, Names]  # reason -> ids

    @classmethod
    def of(cls, survey: pd.DataFrame, class_names: Sequence[str], group: str) -> Health:
        """From ``ListedImages.survey``; ``group`` is the primary attribute's column."""
        used = survey[survey["dropped"] == ""]
        by_split = {split: used[used["split"] == split] for split in SPLITS}
        cells = {split: _cells(rows, class_names, group) for split, rows in by_split.items()}
        alike = survey[survey["duplicate"] != ""].groupby("duplicate", sort=False)
        unknown = survey["unknown"]
        return cls(
            images_checked=bool((survey["digest"] != "").any()),
            listed=len(survey),
            splits={split: len(rows) for split, rows in by_split.items()},
            classes={
                split: {name: sum(cells[split][name, code] for code in GROUPS) for name in class_names}
                for split in SPLITS
            },
            groups={
                split: {code: sum(cells[split][name, code] for name in class_names) for code in GROUPS}
                for split in SPLITS
            },
            absent_cells={split: [cell for cell, count in cells[split].items() if not count] for split in SPLITS},
            thin_cells={
                split: [(*cell, count) for cell, count in cells[split].items() if 0 < count < THIN] for split in SPLITS
            },
            unknown_group={split: int((unknown & (survey["split"] == split)).sum()) for split in SPLITS},
            unknown_rule="dropped" if (survey.loc[unknown, "dropped"] != "").all() else "coded as 1",
            leakage={
                f"{first}-{second}": _leaks(by_split[first], by_split[second])
                for first, second in itertools.combinations(SPLITS, 2)
            },
            missing=_ids(survey, survey["problem"] == "missing"),
            unreadable={
                str(name): str(why)
                for name, why in zip(survey["id"], survey["problem"], strict=True)
                if why not in ("", "missing")
            },
            truncated=_ids(survey, survey["truncated"]),
            converted={kind: _ids(survey, survey["kind"] == kind) for kind in ("greyscale", "cmyk", "rgba", "other")}
            | {"exif_rotated": _ids(survey, survey["rotated"])},
            duplicates=[list(rows["id"]) for _, rows in alike],
            duplicates_with_other_label=int((alike["label"].nunique() > 1).sum()),
            dropped={
                reason: _ids(survey, survey["dropped"] == reason) for reason in survey["dropped"].unique() if reason
            },
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as --json prints it and the sweep's record keeps it."""
        return asdict(self)

    def faults(self) -> list[str]:
        """What ``strict`` refuses, a sentence each: files that cannot be used, and leakage between splits."""
        faults = []
        if self.missing:
            faults.append(f"{_are(len(self.missing), 'image')} missing: {_first(self.missing)}. Bring them.")
        if self.unreadable:
            named = [f"{name} ({why})" for name, why in self.unreadable.items()]
            faults.append(f"{_are(len(named), 'image')} unreadable: {_first(named)}. Replace them or drop their rows.")
        for pair, rows in self.leakage.items():
            if rows:
                faults.append(self._leak(pair, rows))
        return faults

    def notes(self) -> list[str]:
        """What a person should know before a sweep, a sentence each."""
        notes = [
            f"{len(names):,} of {self.listed:,} rows dropped ({reason}): {_first(names)}."
            for reason, names in self.dropped.items()
        ]
        converted = [f"{len(names):,} {kind.replace('_', '-')}" for kind, names in self.converted.items() if names]
        if converted:
            notes.append(f"Converted to upright RGB: {', '.join(converted)}.")
        unknown = sum(self.unknown_group.values())
        if unknown and self.unknown_rule != "dropped":
            rule = f"{self.unknown_rule}; unknown_group: drop omits them"
            notes.append(f"{_are(unknown, 'row')} of unknown group and {rule}.")
        notes += [self._leak(pair, rows) for pair, rows in self.leakage.items() if rows]
        if self.duplicates:
            notes.append(self._repeats())
        for split in SPLITS:
            absent, thin = len(self.absent_cells[split]), len(self.thin_cells[split])
            if absent or thin:
                cells = f"(class, group) cells without an image: {absent:,}; with 1 to {THIN - 1}: {thin:,}"
                notes.append(f"{split}: {cells}.")
        return notes

    def _repeats(self) -> str:
        extra = sum(map(len, self.duplicates)) - len(self.duplicates)
        parts = [f"{extra:,} of {self.listed:,} images {'repeats' if extra == 1 else 'repeat'} another one"]
        if differ := self.duplicates_with_other_label:
            parts.append(f"in {differ:,} of {len(self.duplicates):,} groups the labels differ")
        if "duplicate" not in self.dropped:
            parts.append("duplicates: drop omits them")
        return "; ".join(parts) + "."

    def _leak(self, pair: str, rows: int) -> str:
        first, second = pair.split("-")
        verb = "shares" if rows == 1 else "share"
        return (
            f"{rows:,} of {self.splits[second]:,} {second} rows {verb} a lesion or a picture with {first}; "
            "splits: leak_free avoids it."
        )


def _cells(rows: pd.DataFrame, class_names: Sequence[str], group: str) -> dict[Cell, int]:
    counts = np.zeros((len(class_names), len(GROUPS)), int)
    np.add.at(counts, (rows["label"].to_numpy(int), rows[group].to_numpy(int)), 1)
    return {(name, code): int(counts[label, code]) for label, name in enumerate(class_names) for code in GROUPS}


def _leaks(first: pd.DataFrame, second: pd.DataFrame) -> int:
    """Rows of the second that share a lesion or a duplicate with the first."""
    shared = [(second[key] != "") & second[key].isin(set(first[key])) for key in ("lesion", "duplicate")]
    return int((shared[0] | shared[1]).sum())


def _ids(survey: pd.DataFrame, rows: pd.Series) -> Names:
    return [str(name) for name in survey.loc[rows, "id"]]


def _are(count: int, noun: str) -> str:
    return f"{count:,} {noun}{' is' if count == 1 else 's are'}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
