"""What a store or a disk does not hand out is not damage: nothing is deleted, made anew or tried again for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from stores import S3
from tmpfs import Disk, disk
from trackers import begun, make_ledger

from scp_ray import remote
from scp_ray.cli.main import main
from scp_ray.errors import LedgerError, StoreError
from scp_ray.ledger import Ledger
from scp_ray.ledger.files import check_table, read_arrow, read_failure, read_json, write_table
from scp_ray.ledger.lease import holds
from scp_ray.ledger.weights import read_weights
from scp_ray.parts import ChannelScores
from scp_ray.places import AnyPath, remove_tree
from scp_ray.remote import RemotePath

__all__ = ["disk"]
READERS: dict[str, Callable[[AnyPath], object]] = {
    "a.parquet": read_arrow,
    "b.parquet": check_table,
    "c.safetensors": read_weights,
    "d.json": lambda path: read_json(path, "Delete it."),
}


@pytest.fixture
def folder(s3: S3, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    return s3.folder()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("status", [503, 403])
def test_a_store_out_of_order(s3: S3, folder: RemotePath, name: str, status: int) -> None:
    (folder / name).create(b"damaged")
    with pytest.raises(LedgerError, match=rf"cannot read {folder}/{name}: .*Delete") as damaged:
        READERS[name](folder / name)
    assert not isinstance(damaged.value, StoreError)
    with s3.trouble(status=status), pytest.raises(StoreError, match=rf"cannot read {folder}/{name}: .*") as refused:
        READERS[name](folder / name)
    assert re.findall(r"[Dd]elete \w+", str(refused.value)) == ["Delete nothing"]


@pytest.mark.parametrize("name", READERS)
def test_a_disk_that_refuses(tmp_path: Path, name: str) -> None:
    """A name of 300 characters stands for it: no file system takes one, and no user may read what it does not take."""
    path = tmp_path / (300 * "x" + name)
    with pytest.raises(LedgerError, match=r"File name too long.*The disk refuses it: delete nothing") as refused:
        READERS[name](path)
    assert re.findall(r"[Dd]elete \w+", str(refused.value)) == ["delete nothing"]


@pytest.mark.parametrize("name", READERS)
def test_what_is_missing_or_damaged_within_is_to_be_deleted(tmp_path: Path, name: str) -> None:
    """A flipped footer is an OSError of Arrow's: none of the system's."""
    with pytest.raises(LedgerError, match=r"Delete (it|its folder)\b"):
        READERS[name](tmp_path / name)
    write_table(tmp_path / name, pa.table({"number": [*range(1000)]}))
    with (tmp_path / name).open("r+b") as file:
        file.seek(-60, os.SEEK_END)
        file.write(b"\xff" * 50)
    with pytest.raises(LedgerError, match=r"Delete (it|its folder)\b"):
        READERS[name](tmp_path / name)


def test_a_failure_is_not_taken_for_one_that_may_be_tried_again(s3: S3, folder: RemotePath) -> None:
    ledger = Ledger(folder)
    ledger.record_failure("t", {"label": "t", "kind": "DivergedError", "reason": "nan", "rerun": "x"})
    with s3.trouble(status=503, match="failures/t.json"), pytest.raises(StoreError):
        read_failure(folder / "failures" / "t.json")
    with s3.trouble(status=503, match="failures/t.json"), pytest.raises(StoreError):
        ledger.failures()
    assert ledger.failures()["t"]["kind"] == "DivergedError"


def test_scores_are_not_made_anew(s3: S3, folder: RemotePath) -> None:
    ledger = Ledger(folder)
    ledger.save_scores("b", "s", ChannelScores(torch.tensor([1.0, 2.0])))
    with s3.trouble(status=503, methods=["GET"], match="s.parquet"), pytest.raises(StoreError):
        ledger.scores("b", "s")
    scores = ledger.scores("b", "s")
    assert scores is not None and scores.scores.tolist() == [1.0, 2.0]
    remove_tree(folder / "bases" / "b")
    (folder / "bases" / "b" / "scores" / "s.parquet").create(b"damaged")
    assert ledger.scores("b", "s") is None


# -- looking at footers -----------------------------------------------------------------------------------------------


def test_of_a_large_table_only_the_end_is_fetched(folder: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million rows of noise, 8 MB; the footer lies in its last kilobytes."""
    path = folder / "predictions" / "t.parquet"
    write_table(path, pa.table({"logit": torch.rand(1_000_000, dtype=torch.float64).numpy()}))
    whole, sizes = path.read_bytes(), []
    files = remote.file_system("s3")
    cat_file = files.cat_file

    def counted(*asked: Any, **more: Any) -> bytes:
        content: bytes = cat_file(*asked, **more)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(files, "cat_file", counted)
    assert len(whole) > 4_000_000
    assert check_table(path) == 1_000_000
    assert sizes == [1 << 16]


def test_a_footer_that_is_longer_is_fetched_with_all(folder: RemotePath) -> None:
    path = folder / "rounds" / "t.parquet"
    write_table(path, pa.table({f"a_metric_with_a_long_name_{number}": [0.5, 1.5] for number in range(2000)}))
    with pytest.raises(pa.ArrowInvalid):
        pa.parquet.read_metadata(pa.BufferReader(path.tail(1 << 16)))
    assert check_table(path) == 2


# -- scp-ray track ----------------------------------------------------------------------------------------------------


def test_track_copies_nothing_once_it_lost_the_sweep(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes into the folder is asked for the lease, as a driver's is."""
    ledger = make_ledger(tmp_path / "made")
    root, seen = begun(ledger, tmp_path / "sweep", "lost").root, []

    def replay(sweep: Any, uri: str, attached: Any) -> int:
        assert holds(sweep.ledger.driver, sweep.ledger.token)
        sweep.ledger.check_lease()
        sweep.ledger.driver.unlink()
        with pytest.raises(LedgerError, match="no longer holds"):
            sweep.ledger.check_lease()
        seen.append(uri)
        return 0

    monkeypatch.setattr("scp_ray.tracking.replay.replay", replay)
    assert main(["track", str(root)]) == 0
    assert len(seen) == 1


def test_track_of_an_archive_that_cannot_be_written_to_says_what_helps(
    disk: Disk,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun(make_ledger(tmp_path / "made"), disk.path / "sweep", "archived")
    disk.remount("ro")
    assert main(["track", str(disk.path / "sweep")]) == 2
    told = capsys.readouterr().err
    assert "Read-only file system" in told and f"a copy of {disk.path}/sweep that may be written to" in told
    assert "--out" not in told
