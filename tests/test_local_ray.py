"""A Ray of our own: the mode of its token's file, and the addresses it listens on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from miniature import SPACE, TRIAL

from scp_ray.errors import ResourceError
from scp_ray.tune.local import guard_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_token_is_for_its_user_alone(home: Path, umask: int) -> None:
    """0600 under any umask, 64 hexadecimal digits as `ray get-auth-token --generate` makes them, nothing beside it."""
    before = os.umask(umask)
    try:
        guard_token(create=True)
    finally:
        os.umask(before)
    token = home / ".ray" / "auth_token"
    assert mode(token) == 0o600
    assert len(bytes.fromhex(token.read_text())) == 32
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_a_token_that_is_there_is_kept_and_closed_to_others(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("as it was")
    token.chmod(0o644)
    guard_token(create=True)
    assert (token.read_text(), mode(token)) == ("as it was", 0o600)


def test_a_named_token_file_is_closed_too_and_no_other_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = home / "elsewhere"
    named.write_text("named")
    named.chmod(0o640)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    guard_token(create=True)
    assert mode(named) == 0o600
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("switch", [{"RAY_AUTH_TOKEN": "in the environment"}, {"RAY_AUTH_MODE": "disabled"}])
def test_no_token_is_made_where_none_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, switch: dict[str, str]
) -> None:
    monkeypatch.setenv(*next(iter(switch.items())))
    guard_token(create=True)
    assert not (home / ".ray").exists()


def test_a_running_cluster_is_not_joined_with_a_token_of_our_own(home: Path) -> None:
    guard_token(create=False)
    assert not (home / ".ray").exists()


def test_a_token_that_cannot_be_made_is_an_error_that_says_what_to_do(home: Path) -> None:
    (home / ".ray").write_text("a file where the folder should be")
    with pytest.raises(ResourceError, match=r"auth_token.*mode 0600.*RAY_AUTH_TOKEN_PATH"):
        guard_token(create=True)


@pytest.mark.ray
def test_a_sweep_listens_on_loopback_alone_and_tells_its_token_to_nobody(tmp_path: Path) -> None:
    """Driver, GCS, raylet, its agent and a worker listen; nothing of a local sweep answers another machine."""
    space, hidden = tmp_path / "space.yaml", ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS")
    space.write_text(yaml.safe_dump(SPACE | {"trial": TRIAL | {"pr_c": 0.02, "rounds": 40}}))
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(tmp_path)]
    with (tmp_path / "told").open("wb") as told:
        driver = subprocess.Popen(command, env=environment, stdout=told, stderr=told)
    try:
        for _ in range(1200):
            if any((tmp_path / "miniature").glob("channels/*.parquet")):
                break  # a trial is running: all there is has been started
            assert driver.poll() is None, (tmp_path / "told").read_text()
            time.sleep(0.05)
        addresses = listening(driver.pid)
    finally:
        driver.terminate()
        driver.wait(timeout=60)
    assert len(addresses) >= 5
    assert set(addresses) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    token = tmp_path / ".ray" / "auth_token"
    assert mode(token) == 0o600
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != token]
    assert len(written) > 5
    assert not [path for path in written if token.read_bytes() in path.read_bytes()]


def listening(pid: int) -> list[str]:
    """The address of every socket on which a process or one below it listens, as the kernel tells it."""
    import ray  # brings its own psutil

    assert ray
    import psutil

    found = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with suppress(psutil.Error):  # ended meanwhile
            found += [each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"]
    return found
