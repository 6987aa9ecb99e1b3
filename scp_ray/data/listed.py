"""Images listed in a table: from what the table says to the rows that are used, and to the store of their pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge, Gt, Lt

from scp_ray.data.base import DataSet
from scp_ray.data.build import inspect, known_facts, look, pixels_of, stores_of
from scp_ray.data.health import Health
from scp_ray.data.pixels import DECODE_VERSION
from scp_ray.data.scratch import Scratch
from scp_ray.data.source import Source, exclusive
from scp_ray.data.splits import Codes, clusters, deal
from scp_ray.data.store import is_current, open_store, sources_of
from scp_ray.data.store_writer import write_store
from scp_ray.data.survey import drop_, duplicates_of, first_known, no_facts, repeated, why_dropped
from scp_ray.data.tables import UNKNOWN
from scp_ray.disk import clear_unfinished
from scp_ray.errors import ConfigError, DataError
from scp_ray.parts import SPLITS, FairnessData
from scp_ray.seeds import derive_seed
from scp_ray.terminal import Progress, silent

Share = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class ListedImages(DataSet):
    """What data sets of image files share.

    ``splits``: ``published`` as the tables have them; ``seeded``, dealt anew and stratified by label x group;
    ``leak_free``, the same with no lesion and no duplicate in two splits. ``duplicates: drop`` keeps one of each,
    of test before val before train. ``strict`` refuses what is otherwise dropped and recorded. ``unknown_group`` says
    what becomes of a row that has no value for a sensitive attribute, whichever it is.
    """

    root: str
    image_size: Annotated[int, Ge(8)] = 128
    splits: Literal["published", "seeded", "leak_free"] = "published"
    split_seed: Annotated[int, Ge(0)] = 0
    val_share: Share = 0.1  # of seeded and leak_free splits
    test_share: Share = 0.1
    unknown_group: Literal["as_1", "drop"] = "drop"
    duplicates: Literal["keep", "drop"] = "keep"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.val_share + self.test_share >= 1:
            raise ConfigError(
                f"val_share: {self.val_share} and test_share: {self.test_share} leave nothing to train on; "
                "together they have to be less than 1."
            )
        object.__setattr__(self, "root", os.path.abspath(self.root))  # workers may start elsewhere

    def listed(self) -> pd.DataFrame:
        """What the tables say, all rows: ``id, file, unit, label, split`` and a column per attribute.

        ``file`` is relative to the root; ``unit`` is the lesion or patient, empty where unknown; attributes are codes,
        UNKNOWN where the table does not say; ``split`` is left out by tables without one.

        Raises DataError naming the file, the column or the rows that are missing or wrong.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define listed().")

    def rows(self) -> pd.DataFrame:
        """The canonical table as the tables alone give it: no image is looked at, so no duplicates are known."""
        return self._canonical(self.survey(None))

    def table(self) -> pd.DataFrame:
        """See ``DataSet.table``, with each image's ``path``; images that are new or have changed are read first."""
        table = self._canonical(self.survey(inspect(self._source())))
        return table.assign(path=[os.path.join(self.root, file) for file in table["file"]])

    def health(self, progress: Progress = silent, *, tables_only: bool = False) -> Health:
        """What is wrong with the data set and what is done about it."""
        facts = None if tables_only else inspect(self._source(), progress)
        return self._health(self.survey(facts))

    def _health(self, survey: pd.DataFrame) -> Health:
        return Health.of(survey, self.classes_of(survey), self.attribute_names[0])

    def classes_of(self, survey: pd.DataFrame) -> tuple[str, ...]:
        """Names of the classes that a survey's labels are codes of."""
        return self.class_names

    def survey(self, facts: pd.DataFrame | None) -> pd.DataFrame:
        """Every listed row with what was found of it and ``dropped``: why it is not used, empty where it is.

        Args:
            facts: of each row's file, in the rows' order; None where the images are not looked at.
        """
        table = self.listed().reset_index(drop=True)
        facts = (no_facts(table["file"]) if facts is None else facts).reset_index(drop=True)
        found = facts[["digest", "kind", "rotated", "problem", "truncated"]]
        table = pd.concat([table, found], axis=1)
        table["duplicate"] = duplicates_of(table["id"], facts["alike"])
        table["lesion"] = table["unit"]
        table["unit"] = first_known(table["lesion"], table["duplicate"], table["id"])
        table["unknown"] = (table[list(self.attribute_names)] == UNKNOWN).any(axis=1)
        if self.splits != "published":
            table["split"] = self._dealt(table)
        table["dropped"] = ""
        drop_(table, table["problem"] == "missing", "missing")
        drop_(table, table["problem"] != "", "unreadable")
        if self.unknown_group == "drop":
            drop_(table, table["unknown"], "unknown group")
        else:
            table[list(self.attribute_names)] = table[list(self.attribute_names)].replace(UNKNOWN, 1)
        if self.duplicates == "drop":
            drop_(table, repeated(table), "duplicate")
        return table

    def _dealt(self, table: pd.DataFrame) -> pd.Series:
        cells = np.asarray(table.groupby(["label", self.attribute_names[0]]).ngroup(), np.int64)
        together: Codes = np.arange(len(table), dtype=np.int64)
        if self.splits == "leak_free":
            together = clusters(table["lesion"], table["duplicate"])
        shares = (1 - self.val_share - self.test_share, self.val_share, self.test_share)
        split = deal(cells, together, shares, derive_seed(self.split_seed, "split"))
        return pd.Series(np.array(SPLITS, object)[split], dtype=str)

    def _canonical(self, survey: pd.DataFrame) -> pd.DataFrame:
        table = survey[survey["dropped"] == ""]
        if self.strict and (faults := self._health(survey).faults()):
            raise DataError("\n  ".join([f"{self.root} is refused, since strict is true:", *faults]))
        empty = [split for split in SPLITS if not (table["split"] == split).any()]
        if empty:
            raise DataError(
                f"{self.plugin_name} at {self.root} has no {' and no '.join(empty)} rows; of {len(survey):,} listed "
                f"rows {len(table):,} can be used{why_dropped(survey)}. Check the split column and the images, or let "
                "the rows be dealt (splits: seeded)."
            )
        order = np.argsort(table["split"].map(SPLITS.index).to_numpy(), kind="stable")
        columns = ["id", "unit", "label", "split", *self.attribute_names, "file", "digest"]
        return table[columns].iloc[order].reset_index(drop=True)

    def check_files(self) -> None:
        """See ``DataSet.check_files``."""
        self.rows()
        self._source().stamps()

    def is_known(self) -> bool:
        """See ``DataSet.is_known``."""
        return known_facts(self._source()) is not None

    def sources(self) -> str:
        """See ``DataSet.sources``."""
        return sources_of(self.table()["digest"])

    # -- pixels ---------------------------------------------------------------------------------------------------

    def _source(self) -> Source:
        table = self.listed()
        files, in_order = tuple(table["file"]), ()
        if self.splits == "published":
            in_order = tuple(table["file"].iloc[np.argsort(table["split"].map(SPLITS.index), kind="stable")])
        return Source(Path(self.root), files, in_order)

    def build(self, progress: Progress = silent, *, verify: bool = False, mend: bool = False) -> Path:
        """The store of this data set, made where it is missing or its files have changed.

        Args:
            progress: told what is being done.
            verify: read every file, also those whose size and time say that they are the old ones.
            mend: make a damaged store anew instead of refusing it.

        Raises DataError where files cannot be used (``strict``) or the disk refuses.
        """
        return self._stored(progress, verify, mend).path

    def _stored(self, progress: Progress, verify: bool = False, mend: bool = False) -> _Store:
        source = self._source()
        facts = None if verify else known_facts(source)
        if facts is not None:
            store = self._store(source, facts)
            if store.is_current(mend):
                return store
        with exclusive(source, progress):
            return self._make(source, progress, verify, mend)

    def _make(self, source: Source, progress: Progress, verify: bool, mend: bool) -> _Store:
        size, name = self.image_size, f"{self.image_size}px-{DECODE_VERSION}"
        clear_unfinished(source.folder, f"{name}-*.arrow")
        stores = [] if verify else stores_of(source.folder, name)
        available = {digest for store in stores for digest in store.digests()}
        with Scratch(source.folder / f"{name}-building", 3 * size * size) as scratch:
            try:
                facts = look(source, scratch, progress, size=size, available=available, trust=not verify)
                store = self._store(source, facts)
                if verify or not store.is_current(mend):
                    progress(f"writing {store.path}", 0, 0)
                    pixels = pixels_of(scratch, stores, list(store.table["digest"]))
                    write_store(store.path, store.table, store.identity, pixels)
            except DataError as error:
                if isinstance(error.__cause__, OSError):
                    scratch.remove()  # a full disk is given back
                raise
            scratch.remove()
        return store

    def _store(self, source: Source, facts: pd.DataFrame) -> _Store:
        table = self._canonical(self.survey(facts))
        identity = self._identity(table)
        name = f"{self.image_size}px-{DECODE_VERSION}-{str(identity['table'])[:16]}.arrow"
        return _Store(source.folder / name, table, identity)

    def bytes_to_store(self) -> int:
        """See ``DataSet.bytes_to_store``: a byte per colour and pixel."""
        source = self._source()
        facts = known_facts(source)
        missing = facts is None or not self._store(source, facts).path.exists()
        return 3 * self.image_size**2 * len(self.rows()) if missing else 0

    def load(self) -> FairnessData:
        """The data set, its images mapped from the store, which is built where it is missing."""
        return _load(self)


class _Store(NamedTuple):
    """Where a data set's store lies and what it has to hold."""

    path: Path
    table: pd.DataFrame
    identity: Mapping[str, str | int]

    def is_current(self, mend: bool) -> bool:
        """Whether it is there; with ``mend`` a damaged one counts as none."""
        try:
            return is_current(self.path, self.table, self.identity)
        except DataError:
            if mend:
                return False
            raise


@lru_cache(maxsize=2)
def _load(data_set: ListedImages) -> FairnessData:
    store = data_set._stored(silent)
    opened = open_store(store.path, store.identity, data_set.attribute_names)
    return FairnessData(
        name=data_set.plugin_name,
        class_names=data_set.class_names,
        attribute_names=data_set.attribute_names,
        privileged_code=data_set.privileged_code,
        splits=opened.splits,
        sources=opened.sources,
    )
