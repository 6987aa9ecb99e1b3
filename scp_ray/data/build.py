"""From image files to facts and to a store: decoded once, on all cores; goes on where a kill interrupted it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky.process_executor import TerminatedWorkerError

from scp_ray.data.duplicates import duplicate_groups
from scp_ray.data.facts import REMEDY, frame, fresh, load_facts, save_facts
from scp_ray.data.pixels import DECODE_VERSION, DUPLICATE_BITS, HASH_BYTES, Look, look_at_all
from scp_ray.data.scratch import Scratch
from scp_ray.data.source import Source, exclusive
from scp_ray.data.store import StoredPixels
from scp_ray.disk import replacing
from scp_ray.errors import DataError
from scp_ray.terminal import Progress, silent

_BRIEFLY = {"idle_worker_timeout": 10}  # seconds that processes outlive their work, or a killed build
_CHUNK = 32  # files a process decodes at a time
_WORTH_PROCESSES = 2 * _CHUNK


def known_facts(source: Source) -> pd.DataFrame | None:
    """What is known of every file; None where some are new or have changed."""
    facts = load_facts(source.folder)
    if facts.empty:
        return None
    stamps = source.stamps()
    facts = fresh(facts, stamps)
    return _of_files(source, facts) if len(facts) == len(stamps) else None


def inspect(source: Source, progress: Progress = silent) -> pd.DataFrame:
    """The facts of every file, in the order of ``source.files``; files that are new or have changed are read.

    Raises DataError where none of the files is there or the disk refuses.
    """
    facts = known_facts(source)
    if facts is None:
        with exclusive(source, progress), Scratch(source.folder / f"looking-{DECODE_VERSION}", 0) as scratch:
            facts = look(source, scratch, progress)
            scratch.remove()
    return facts


def look(
    source: Source,
    scratch: Scratch,
    progress: Progress,
    *,
    size: int | None = None,
    available: Collection[str] = (),
    trust: bool = True,
) -> pd.DataFrame:
    """Read what is not yet known, into ``scratch``; returns the facts of every file, which are then saved.

    Args:
        source: the files.
        scratch: takes the pixels.
        progress: told of each chunk.
        size: of the pixels; None for facts alone.
        available: digests whose pixels are at hand elsewhere.
        trust: whether a file that has its old size and time is the old one.
    """
    stamps = source.stamps()
    before = load_facts(source.folder)
    facts = fresh(pd.concat([before.reset_index(), frame(scratch.facts).reset_index()]).pipe(_latest), stamps)
    if not trust:
        facts = facts.iloc[:0]
    if size is not None:
        at_hand = facts["digest"].isin([*available, *scratch.digests()])
        facts = facts[at_hand | (facts["problem"] != "")]
    files = [file for file in dict.fromkeys(source.in_order or source.files) if file not in facts.index]
    if size is not None:
        gathers = not source.in_order or bool(available or (files and scratch.digests()))  # copied once more
        _check_space(source.folder, (len(stamps) * gathers + len(files)) * 3 * size * size)
    done = len(stamps) - len(files)
    progress(f"reading {source.root}", done, len(stamps))
    try:
        for start, looks in _looks(source.root, files, size, scratch):
            chunk = files[start : start + len(looks)]
            scratch.add(((file, stamps[file], seen) for file, seen in zip(chunk, looks, strict=True)), start)
            done += len(chunk)
            progress(f"reading {source.root}", done, len(stamps))
    except OSError as error:
        raise scratch.refused(error) from error
    scratch.begin_flush()
    facts = _latest(pd.concat([before.reset_index(), facts.reset_index(), frame(scratch.facts).reset_index()]))
    save_facts(source.folder, facts)
    return _of_files(source, facts)


def _of_files(source: Source, facts: pd.DataFrame) -> pd.DataFrame:
    """The facts of each file in the given order, with ``alike``: a code that duplicates share, -1 for what has no hash.

    Comparing 25,000 images takes a second or two, so the answer is kept, named by what was compared.
    """
    facts = facts.loc[list(source.files)]
    known = [value for value in facts["phash"] if value]
    hashes = b"".join(known)
    name = hashlib.sha256(hashes).hexdigest()[:16]
    path = source.folder / f"alike-{DUPLICATE_BITS}-{name}.npy"
    try:
        groups = np.load(path)
    except (OSError, ValueError, EOFError):
        groups = duplicate_groups(np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES), DUPLICATE_BITS)
        with suppress(DataError), replacing(path, DataError, REMEDY) as file:  # nothing is lost but the time
            np.save(file, groups)
    alike = np.full(len(facts), -1)
    alike[[bool(value) for value in facts["phash"]]] = groups
    return facts.assign(alike=alike)


def _latest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates("file", keep="last").set_index("file")


def _looks(root: Path, files: Sequence[str], size: int | None, scratch: Scratch) -> Iterator[tuple[int, list[Look]]]:
    """Where each chunk begins, with its looks, in order; on all cores that this process may use."""
    starts = range(0, len(files), _CHUNK)
    processes = joblib.cpu_count() if len(files) >= _WORTH_PROCESSES else 1
    pool = joblib.Parallel(processes, return_as="generator", pre_dispatch="3*n_jobs", batch_size=1, **_BRIEFLY)
    work = (
        joblib.delayed(look_at_all)(
            [root / file for file in files[at : at + _CHUNK]], size, scratch.target, scratch.offset(at), processes > 1
        )
        for at in starts
    )
    try:
        yield from zip(starts, pool(work), strict=True)
    except TerminatedWorkerError as error:
        raise DataError(
            f"a process that decoded images of {root} was killed; the usual cause is too little memory. "
            "Run the same command again to go on."
        ) from error


def _check_space(folder: Path, needed: int) -> None:
    """Refuse before the work what would fail after it."""
    free = disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder} has {free / 1e6:,.0f} MB free; decoding takes up to {needed / 1e6:,.0f} MB there. {REMEDY}"
        )


def pixels_of(scratch: Scratch, stores: Sequence[StoredPixels], digests: Sequence[str]) -> Path:
    """A file that can become a store of these images: where they were decoded if they lie there in this order, else a
    new one.

    Raises DataError where the disk refuses or gives back other bytes than it was given.
    """
    in_place = scratch.in_place(digests)
    if in_place is not None:
        return in_place
    places: list[Scratch | StoredPixels] = [*stores, scratch]
    where = {digest: place for place in places for digest in place.digests()}
    return scratch.gathered(where[digest].read(digest) for digest in digests)


def stores_of(folder: Path, name: str) -> list[StoredPixels]:
    """The whole stores of an image size and decode version; what is damaged is passed over."""
    found = []
    for path in sorted(folder.glob(f"{name}-*.arrow")):
        try:
            found.append(StoredPixels(path))
        except DataError:
            continue  # it is refused where it is opened by name
    return found
