"""Placement, waiting and the probe on real clusters of several nodes in this machine, their GPUs fake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from miniature import SPACE
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from scp_ray.config import Resources
from scp_ray.config.space import NodeType
from scp_ray.data.base import datasets
from scp_ray.errors import ResourceError
from scp_ray.ledger import load_sweep
from scp_ray.tune import node_types
from scp_ray.tune.placement import fits, trial_bundles
from scp_ray.tune.preflight import cluster_nodes, place_trials
from scp_ray.tune.probe import probe_nodes

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of 3 CPUs and 2 fake GPUs; this process is connected."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "num_gpus": 2})
    made.add_node(num_cpus=3, num_gpus=2)
    ray.init(address=made.address, log_to_driver=False)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def start(folder: Path, address: str | None, *more: str, env: dict[str, str] | None = None, **resources: Any) -> Any:
    """A sweep in a process of its own, its results in folder/out."""
    space = SPACE | {"resources": {"device": "cpu", "threads_per_trial": 1} | resources}
    folder.mkdir(exist_ok=True)
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    words = [
        sys.executable,
        "-m",
        "scp_ray.cli.main",
        "sweep",
        str(folder / "space.yaml"),
        "--out",
        str(folder / "out"),
    ]
    words += ["--address", address] if address else []
    return subprocess.Popen(
        [*words, *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | (env or {})
    )


def ended(sweep: Any, expect: int) -> str:
    """What the sweep said on stderr."""
    said: str = sweep.communicate(timeout=240)[1]
    assert sweep.returncode == expect, said
    return said


def wait_for(condition: Callable[[], Any], log: Path | None = None) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, f"what the test waits for did not happen. {log.read_text() if log else ''}"
        time.sleep(0.1)


def groups(state: str) -> list[list[dict[str, float]]]:
    """The bundles of every placement group in that state."""
    return [list(each["bundles"].values()) for each in placement_group_table().values() if each["state"] == state]


# -- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "gpus", "scorers", "share", "expected"),
    [
        (1, 1, 3, 1, True),
        (1, 1, 4, 1, False),  # each of the 5 bundles fits a node, and there are 4 GPUs
        (1, 0.6, 1, 0.6, True),
        (1, 0.6, 2, 0.6, False),  # the first node's totals hold 1.8 GPUs, its two devices do not; Ray goes no other way
        (2, 0.5, 3, 1, True),
        (3, 2, 3, 0.5, True),
        (3, 0, 4, 0, False),  # 7 of 6 CPUs
    ],
)
def test_ray_agrees_on_what_fits(cluster: Cluster, cpus, gpus, scorers, share, expected):
    wanted = Resources(cpus_per_trial=cpus, gpus_per_trial=gpus, scorers=scorers, gpus_per_scorer=share)
    bundles = trial_bundles(wanted, [])
    assert fits(bundles, cluster_nodes()) is expected
    group = placement_group([{kind: amount for kind, amount in bundle.items() if amount} for bundle in bundles])
    try:
        assert group.wait(10 if expected else 2) is expected
    finally:
        remove_placement_group(group)
        wait_for(lambda: ray.available_resources().get("CPU") == 6)


def test_five_bundles_on_four_gpus_are_refused_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Exit code 3 with the nearest request that fits, and no trace."""
    sweep = start(tmp_path, cluster.address, cpus_per_trial=1, gpus_per_trial=1, scorers=4, gpus_per_scorer=1)
    said = ended(sweep, 3)
    assert "1 CPUs and 1 GPUs on one node and for 4 scorers of 1 CPU and 1 GPUs each" in said
    assert "The nearest request that fits: --set resources.scorers=3\n" in said
    assert not (tmp_path / "out").exists()


def test_a_sweep_without_an_address_joins_no_other(cluster: Cluster, tmp_path: Path) -> None:
    """A Ray with GPUs runs here, RAY_ADDRESS and Ray's own file name it, and still the sweep finds none."""
    jobs = len(ray._private.state.jobs())
    sweep = start(tmp_path, None, env={"RAY_ADDRESS": cluster.address}, cpus_per_trial=1, gpus_per_trial=1)
    said = ended(sweep, 3)
    assert "a trial asks for 1 CPUs and 1 GPUs" in said
    assert len(ray._private.state.jobs()) == jobs


# -- waiting ----------------------------------------------------------------------------------------------------------

LARGER = {"cpus_per_trial": 4, "gpus_per_trial": 0, "scorers": 2, "node_types": [{"cpus": 4, "max": 1}]}


def test_nodes_that_do_not_come_end_the_wait(cluster: Cluster, tmp_path: Path) -> None:
    """One sweep waits a second, one is stopped while it waits; each asks for the whole group, and leaves nothing."""
    short = start(tmp_path / "short", cluster.address, "--wait", "1s", **LARGER)
    stopped = start(tmp_path / "stopped", cluster.address, **LARGER)
    wait_for(lambda: [{"CPU": 4.0}, {"CPU": 1.0}, {"CPU": 1.0}] in groups("PENDING"))
    said = ended(short, 3)
    assert "waited 1 s for nodes that can hold a trial of 4 CPUs and 0 GPUs on one node" in said
    assert "--set resources.cpus_per_trial=3" in said
    wait_for(lambda: groups("PENDING"))
    stopped.send_signal(signal.SIGTERM)
    assert "waiting up to 15 min for nodes" in ended(stopped, 75)
    assert groups("PENDING") == []
    assert not any((tmp_path / name / "out").exists() for name in ("short", "stopped"))


def test_the_wait_ends_when_the_node_comes(cluster: Cluster) -> None:
    """The whole group is asked for while the node is missing, and given back when it is there."""
    added, asked = [], []

    def node_comes() -> None:
        if not added and (pending := groups("PENDING")):
            asked.extend(pending)
            added.append(cluster.add_node(num_cpus=4))

    wanted = Resources(cpus_per_trial=4, gpus_per_trial=0, scorers=2, node_types=[NodeType(cpus=4, max=1)])
    expected = [{"CPU": 4, "GPU": 0}, {"CPU": 1, "GPU": 0}, {"CPU": 1, "GPU": 0}]
    try:
        assert place_trials(wanted, may_grow=True, wait_s=60, check_on=node_comes) == expected
        assert asked == [[{"CPU": 4.0}, {"CPU": 1.0}, {"CPU": 1.0}]]
        wait_for(lambda: not groups("PENDING") and not groups("CREATED"))
    finally:
        for node in added:
            cluster.remove_node(node)


@pytest.mark.slow
def test_a_sweep_goes_on_when_the_node_comes(cluster: Cluster, tmp_path: Path) -> None:
    """A base model holds the head's bundle alone; a trial gets the same node again, with its scorers' bundles."""
    sweep = start(tmp_path, cluster.address, "--wait", "2m", **LARGER)
    wait_for(lambda: groups("PENDING"))
    added = cluster.add_node(num_cpus=4)
    try:
        ended(sweep, 0)
    finally:
        cluster.remove_node(added)
    assert load_sweep(tmp_path / "out" / "miniature").trials["status"].tolist() == ["done"]
    assert {"CPU": 4.0} in [each for group in groups("REMOVED") if len(group) == 1 for each in group]
    assert all(len(group) in (1, 3) for group in groups("REMOVED") if {"CPU": 4.0} in group)


def test_types_that_ray_tells_are_waited_for_too(cluster: Cluster, tmp_path: Path, monkeypatch) -> None:
    """From the cluster's own configuration, and from the one that `ray up` leaves on the head."""
    wanted = Resources(cpus_per_trial=8, gpus_per_trial=0)
    with pytest.raises(ResourceError, match="the nodes cannot hold that at once"):
        place_trials(wanted, may_grow=True, wait_s=0)
    left = tmp_path / "bootstrap.yaml"
    monkeypatch.setattr(node_types, "BOOTSTRAP", left)
    types = {"head": {"resources": {"CPU": 99}}, "big": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 1}}
    left.write_text(yaml.safe_dump({"head_node_type": "head", "available_node_types": types}))
    with pytest.raises(ResourceError, match="waited 0 s for nodes"):
        place_trials(wanted, may_grow=True, wait_s=0)
    left.write_text("available_node_types: [")
    with pytest.raises(ResourceError, match="cannot read the node types"):
        place_trials(wanted, may_grow=True, wait_s=0)
    left.unlink()
    reported = autoscaler_pb2.NodeGroupConfig(name="big", resources={"CPU": 8}, max_count=-1)
    client = GcsClient(address=cluster.address)
    try:
        client.report_cluster_config(autoscaler_pb2.ClusterConfig(node_group_configs=[reported]).SerializeToString())
        with pytest.raises(ResourceError, match="waited 0 s for nodes"):
            place_trials(wanted, may_grow=True, wait_s=0)
    finally:
        client.report_cluster_config(autoscaler_pb2.ClusterConfig().SerializeToString())


def test_a_living_node_counts_against_its_type(cluster: Cluster) -> None:
    """Of a type of at most 3 nodes two run already: one more trial of two bundles of 3 CPUs would need two."""
    nodes, kind = cluster_nodes(), NodeType(cpus=3, gpus=2, max=3)
    assert len(node_types.nodes_to_come([kind], nodes, enough=5)) == 1
    assert len(node_types.nodes_to_come([kind], nodes[:1], enough=5)) == 2
    assert len(node_types.nodes_to_come([kind], [], enough=2)) == 2


# -- the probe --------------------------------------------------------------------------------------------------------


@contextmanager
def nodes_of_their_own(address: str, mounts: dict[str, str], log: Path) -> Iterator[None]:
    """Nodes with a host name and mounts of their own: by name, the commands that mount."""
    if subprocess.run(["unshare", "-mu", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces")
    node = f"{Path(sys.executable).with_name('ray')} start --block --address={address} --num-cpus=2"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, commands in mounts.items():  # one after the other: of two at once on one address Ray may lose one
            words = ["unshare", "-mu", "sh", "-ec", f"hostname {name}; {commands}; exec {node}"]
            with log.open("w") as file:
                started.append(subprocess.Popen(words, stdout=file, stderr=file))
            wait_for(lambda name=name: name in {node["NodeManagerHostname"] for node in ray.nodes()}, log)
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def test_a_node_that_cannot_do_its_part_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """A path that is not shared, a disk that is read-only, data that is not there; sound nodes are not named."""
    folder, data = tmp_path / "sweep", tmp_path / "data"
    for made in (folder, data / "images"):
        made.mkdir(parents=True)
    rows = [f"i{at}.png,{at % 2},{'fm'[at // 2 % 2]}" for at in range(60)]
    (data / "metadata.csv").write_text("\n".join(["name,finding,sex", *rows]))
    for at in range(60):
        (data / "images" / f"i{at}.png").write_bytes(b"never decoded")
    columns = {"file": "name", "label": "finding", "group": "sex", "splits": "seeded", "images": "images"}
    images = datasets.get("csv")(root=str(data), **columns)
    small, large = [{"CPU": 1.0, "GPU": 0.0}], [{"CPU": 3.0, "GPU": 0.0}]
    probe_nodes(cluster_nodes(), small, folder, [images])
    mounts = {
        "elsewhere": f"mount -t tmpfs none {folder}; mount -t tmpfs none {data / 'images'}",
        "readonly": f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}",
    }
    with nodes_of_their_own(cluster.address, mounts, tmp_path / "nodes.log"):
        with pytest.raises(ResourceError) as refused:
            probe_nodes(cluster_nodes(), small, folder, [images])
        probe_nodes(cluster_nodes(), large, folder, [images])  # no node of 2 CPUs is used: what it sees does not matter
    told = [line.strip() for line in str(refused.value).splitlines()[1:]]
    assert [line.split(": ")[0] for line in sorted(told)] == ["elsewhere", "elsewhere", "readonly"]
    assert any(f"elsewhere: {folder} is not the folder that the driver sees there" in line for line in told)
    assert any("elsewhere: none of the 60 images" in line for line in told)
    assert any(f"readonly: cannot write {folder}/.probe" in line and "Read-only" in line for line in told)
    assert list(folder.iterdir()) == []
