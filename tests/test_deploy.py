"""Files that start clusters: each is checked by the program that would read it, as far as that is here."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import yaml
from miniature import SPACE, TRIAL

from scp_ray.cli.main import _COMMANDS
from scp_ray.config import SweepConfig, read_space
from scp_ray.tune.node_types import nodes_to_come
from scp_ray.tune.placement import Node, fits, trial_bundles

ROOT = Path(__file__).parents[1]
SBATCH = ROOT / "deploy" / "slurm" / "sweep.sbatch"


def parsed_by_ray(words: list[str]) -> dict[str, Any]:
    """The options of ``ray WORDS`` as Ray's own parser reads them; nothing is run. Raises click.UsageError."""
    from ray.scripts.scripts import cli

    name, command, rest = cli.resolve_command(click.Context(cli), words)
    options: dict[str, Any] = command.make_context(name, list(rest)).params
    return options


def parsed_by_us(words: list[str]) -> argparse.Namespace:
    """The options of ``scp-ray WORDS``; SystemExit where there is no such command or option."""
    commands = (parser := argparse.ArgumentParser()).add_subparsers(required=True)
    for name, module in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name))
    options = parser.parse_args(words)
    if "space" in options:
        assert (ROOT / "search_spaces" / f"{options.space}.yaml").is_file()
    return options


def words_after(program: str, line: str) -> list[str]:
    """The words behind a program's name, up to the end of its command."""
    words = shlex.split(line)
    start = next(index for index, word in enumerate(words) if Path(word).name == program)
    ends = [index for index, word in enumerate(words) if word in ("&&", "||", ";", ">", "|") and index > start]
    return words[start + 1 : min(ends, default=len(words))]


# -- cluster.yaml -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


def test_the_launcher_takes_cluster_yaml(cluster: dict[str, Any]) -> None:
    """With the defaults that it fills in, by its own schema and its own rules."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    workers = prepared["available_node_types"]["gpu-worker"]
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (workers["min_workers"], workers["max_workers"]) == (0, 8)
    assert prepared["available_node_types"][prepared["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}


def test_a_misspelt_key_would_be_refused(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(cluster | {"max_worker": 8}))


def test_only_ssh_is_open_to_the_outside(cluster: dict[str, Any]) -> None:
    """The rules of the security group as Ray would write them: from an address only port 22, else from the group."""
    aws = pytest.importorskip("ray.autoscaler._private.aws.config", reason="needs boto3", exc_type=ImportError)
    group = cluster["provider"]["security_group"]
    assert "SecurityGroupIds" not in str(cluster), "a group of somebody's own is not made by Ray"
    rules = aws._create_default_inbound_rules({"sg-1"}, group.get("IpPermissions", []))
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules if "IpRanges" in rule] == [(22, 22)]
    assert [rule["UserIdGroupPairs"] for rule in rules if "IpRanges" not in rule] == [[{"GroupId": "sg-1"}]]


def test_every_command_of_cluster_yaml_is_one_that_ray_knows(cluster: dict[str, Any]) -> None:
    """Those that start Ray, with the token mode and the dashboard on loopback, and those of the header."""
    starts = [line for where in ("head", "worker") for line in cluster[f"{where}_start_ray_commands"]]
    options = [parsed_by_ray(words_after("ray", line)) for line in starts]
    head, worker = options[1], options[3]
    assert (head["head"], head["port"], head["dashboard_host"]) == (True, 6379, "127.0.0.1")
    assert (worker["head"], worker["address"]) == (False, "$RAY_HEAD_IP:6379")
    assert all(line.startswith("RAY_AUTH_MODE=token ") for line in starts if " start " in line)
    header = re.findall(r"^#   (ray .*?)(?:   .*)?$", (ROOT / "cluster.yaml").read_text(), flags=re.MULTILINE)
    assert len(header) == 6
    for line in header:
        read = parsed_by_ray(words_after("ray", line))
        if "cmd" in read:
            parsed_by_us(
                words_after("scp-ray", " ".join(read["cmd"]) if isinstance(read["cmd"], tuple) else read["cmd"])
            )


def test_every_node_gets_what_a_sweep_in_a_bucket_needs(cluster: dict[str, Any]) -> None:
    """The header's sweep writes to s3://, so the package comes with that extra, as a shell hands it to pip."""
    assert " --out s3://BUCKET/" in (ROOT / "cluster.yaml").read_text()
    (install,) = [line for line in cluster["setup_commands"] if "pip install" in line]
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {install}"], env={"HOME": "/home/ubuntu"}, capture_output=True, text=True
    ).stdout.splitlines()
    assert "/home/ubuntu/scp_ray[s3]" in said
    assert "s3" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_node_gets_the_token_and_what_the_package_is_built_from(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    assert mounts["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert cluster["setup_commands"][0] == "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token"
    here = {remote: local for remote, local in mounts.items() if local != "~/.ray/auth_token"}
    assert {remote: f"~/scp_ray/{local}" for remote, local in here.items()} == {remote: remote for remote in here}
    assert all((ROOT / local).exists() for local in here.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], *project["project"]["license-files"], *wheel["packages"]}
    assert needed | {*wheel["force-include"], "pyproject.toml", "constraints.txt"} == {*here.values()}


# -- Slurm ------------------------------------------------------------------------------------------------------------


def test_shellcheck_finds_nothing_in_the_job_script() -> None:
    checker = Path(sys.executable).with_name("shellcheck")
    answer = subprocess.run([checker, SBATCH], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


def directives() -> dict[str, str]:
    found = re.findall(r"^#SBATCH --([a-z-]+)=?(\S*)$", SBATCH.read_text(), flags=re.MULTILINE)
    return dict(found)


def test_slurm_warns_the_shell_early_enough_and_one_ray_has_each_node() -> None:
    """B: is the batch shell. The driver takes up to 10 s; a Ray whose head has gone is noticed within a minute."""
    asked = directives()
    to, _, seconds = asked["signal"].partition("@")
    assert to == "B:USR1" and int(seconds) >= 10 + 60
    assert asked["ntasks-per-node"] == "1"
    assert {"exclusive", "requeue", "no-kill"} <= {*asked}


STUBS = {
    "hostname": "echo 127.0.0.1",
    "scontrol": 'echo "$@" >> "$NOTED/scontrol"',
    # srun without its own options, as one task
    "srun": 'while [[ "$1" == -* ]]; do shift; done\nprintf "%s\\n" "$@" >> "$NOTED/srun"\nexec "$@"',
}
# what stands in for Ray and the sweep where only the script is in question
PLAIN = {
    "ray": 'while [[ "$1" != -- ]]; do shift; done\nshift\n"$@"',
    "scp-ray": 'stat -c %a "$RAY_AUTH_TOKEN_PATH" > "$NOTED/mode"\nstart_seconds=$SECONDS\n'
    'trap "exit $CODE_WHEN_TOLD" TERM\ntouch "$NOTED/running"\n'
    'while ((SECONDS - start_seconds < ${LASTS:-30})); do sleep 0.1; done\nexit "${CODE:-0}"',
}


def job(
    folder: Path, programs: dict[str, str], *arguments: str, enter: Sequence[str] = (), **environment: str
) -> subprocess.Popen[str]:
    """The job script as Slurm starts it, in a process group of its own, with programs of ours first in its path."""
    binaries = folder / "venv" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for name, code in programs.items():
        (binaries / name).write_text(f"#!/usr/bin/env bash\n{code}\n")
        (binaries / name).chmod(0o755)
    with_slurm = {
        "SLURM_JOB_ID": f"4711{os.getpid()}",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "VENV": str(folder / "venv"),
        "OUT": str(folder / "out"),
        "HOME": str(folder),
        "NOTED": str(folder),
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [*enter, "bash", str(SBATCH), *arguments]
    return subprocess.Popen(
        command, env=kept | with_slurm | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"{path.name} did not appear within two minutes")


@pytest.mark.parametrize(
    ("told", "code", "requeued"),
    [
        (signal.SIGUSR1, 75, True),  # the time limit: the sweep goes on in the same job's next run
        (signal.SIGTERM, 75, False),  # somebody's scancel
        (signal.SIGUSR1, 0, False),  # finished just then
        (signal.SIGUSR1, 1, False),  # finished, with failed trials
    ],
)
def test_the_job_goes_back_into_the_queue_where_its_time_was_up(
    tmp_path: Path, told: signal.Signals, code: int, requeued: bool
) -> None:
    process = job(tmp_path, STUBS | PLAIN, "fig2a-pruning-ratio", CODE_WHEN_TOLD=str(code))
    wait_for(tmp_path / "running", process)
    process.send_signal(told)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    noted = tmp_path / "scontrol"
    assert noted.exists() == requeued
    assert not requeued or noted.read_text() == f"requeue 4711{os.getpid()}\n"
    assert not [*(tmp_path / ".ray").iterdir()], "the job's token is gone with it"


@pytest.mark.parametrize("code", [0, 1, 3, 75])
def test_a_job_that_was_not_told_to_stop_ends_with_its_drivers_code(tmp_path: Path, code: int) -> None:
    process = job(tmp_path, STUBS | PLAIN, "fig2a-pruning-ratio", LASTS="0", CODE=str(code), CODE_WHEN_TOLD="9")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    assert not (tmp_path / "scontrol").exists()


def test_what_the_job_starts_is_what_ray_and_scp_ray_know(tmp_path: Path) -> None:
    """symmetric-run's options, those it hands to `ray start`, and the sweep's; the token's file is 0600."""
    arguments = ["fig2a-pruning-ratio", "--set", "trial.dataset.root=/shared/data with a space"]
    process = job(tmp_path, STUBS | PLAIN, *arguments, LASTS="0", CODE_WHEN_TOLD="9", SLURM_JOB_NUM_NODES="4")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    words = (tmp_path / "srun").read_text().splitlines()
    ray, sweep = words[1 : words.index("--")], words[words.index("scp-ray") + 1 : words.index("rm")]
    read = parsed_by_ray(ray)
    assert (read["address"], read["min_nodes"]) == ("127.0.0.1:6379", 4)
    handed_on = parsed_by_ray(["start", "--head", *read["ray_args_and_entrypoint"]])
    assert (handed_on["num_cpus"], handed_on["num_gpus"]) == (1, 0)
    asked = parsed_by_us(sweep)
    assert (asked.address, asked.out) == ("127.0.0.1:6379", str(tmp_path / "out"))
    assert asked.overrides == ["trial.dataset.root=/shared/data with a space"]
    assert (tmp_path / "mode").read_text() == "600\n"


NAMESPACES = ["unshare", "--fork", "--pid", "--mount-proc", "--net", "--kill-child"]
ENTER = [*NAMESPACES, "sh", "-c", 'ip link set lo up && exec "$0" "$@"']


@pytest.mark.ray
@pytest.mark.slow
def test_the_job_with_a_real_symmetric_run(tmp_path: Path) -> None:
    """The time limit comes in the middle: 75 and back into the queue; the job's next run goes on with the same rounds.

    Alone with its own processes and its own network, because symmetric-run ends every Ray that it finds.
    """
    if subprocess.run([*ENTER, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces of processes and networks")
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE | {"trial": TRIAL | {"pr_c": 0.02, "rounds": 40}}))
    real = Path(sys.executable)
    programs = STUBS | {
        "python": f'exec {real} "$@"',
        "ray": f'exec {real.with_name("ray")} "$@"',
        "scp-ray": f'exec {real} -m scp_ray.cli.main "$@"',
    }
    store = {"PYTHONPATH": str(ROOT), "SCP_RAY_STORE": str(tmp_path / "store")}
    process = job(tmp_path, programs, str(space), enter=ENTER, **store)
    rounds = tmp_path / "out" / "miniature" / "rounds"
    wait_for(rounds.parent / "channels", process)
    (shell,) = children_of(process.pid)
    os.kill(shell, signal.SIGUSR1)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert (tmp_path / "scontrol").exists()
    (table,) = rounds.glob("*.parquet")
    before = pd.read_parquet(table)
    assert 2 <= len(before) < 41

    process = job(tmp_path, programs, str(space), "--set", f"trial.rounds={len(before)}", enter=ENTER, **store)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    after = pd.read_parquet(table)
    assert len(after) == len(before) + 1
    assert after["time"].tolist()[: len(before)] == before["time"].tolist()


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=True)
    return [int(word) for word in listed.stdout.split()]


# -- KubeRay ----------------------------------------------------------------------------------------------------------

# Fields of KubeRay 1.7 (CRD API reference, ray.io/v1) and of Kubernetes' pods that the file may use, with their types.
TEXT_BY_NAME = {str: str}
RESOURCES = {"limits": TEXT_BY_NAME, "requests": TEXT_BY_NAME}
CONTAINER = {
    **{"name": str, "image": str, "resources": RESOURCES, "env": [{"name": str, "value": str}]},
    "volumeMounts": [{"name": str, "mountPath": str}],
}
VOLUME = {
    **{"name": str, "persistentVolumeClaim": {"claimName": str}},
    "emptyDir": {"medium": str, "sizeLimit": str},
}
POD = {
    "spec": {
        **{"terminationGracePeriodSeconds": int, "containers": [CONTAINER], "volumes": [VOLUME]},
        "securityContext": {"runAsNonRoot": bool, "runAsUser": int, "fsGroup": int},
    }
}
WORKER_GROUP = {
    **{"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int},
    **{"rayStartParams": TEXT_BY_NAME, "template": POD},
}
RAY_CLUSTER = {
    **{"rayVersion": str, "authOptions": {"mode": str, "secretName": str}, "enableInTreeAutoscaling": bool},
    **{"autoscalerOptions": {"idleTimeoutSeconds": int, "upscalingMode": str, "version": str}},
    **{"headGroupSpec": {"rayStartParams": TEXT_BY_NAME, "template": POD}, "workerGroupSpecs": [WORKER_GROUP]},
}
RAY_JOB = {
    **{"apiVersion": str, "kind": str, "metadata": {"name": str}},
    "spec": {
        **{"entrypoint": str, "runtimeEnvYAML": str, "backoffLimit": int, "submissionMode": str},
        **{"activeDeadlineSeconds": int, "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int},
        **{"suspend": bool, "rayClusterSpec": RAY_CLUSTER},
    },
}


def faults(value: Any, allowed: Any, path: str = "") -> list[str]:
    """Fields that are not among the allowed ones, or have another type."""
    if isinstance(allowed, type):
        return [] if type(value) is allowed else [f"{path}: {value!r} should be {allowed.__name__}"]
    if isinstance(allowed, list):
        if not isinstance(value, list):
            return [f"{path}: {value!r} should be a list"]
        return [fault for index, each in enumerate(value) for fault in faults(each, allowed[0], f"{path}[{index}]")]
    if not isinstance(value, dict):
        return [f"{path}: {value!r} should be a mapping"]
    found = []
    for key, inner in value.items():
        rule = allowed.get(key, allowed.get(str))
        found += [f"{path}.{key}: unknown"] if rule is None else faults(inner, rule, f"{path}.{key}")
    return found


def rayjob() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayjob.yaml").read_text())
    return loaded


def test_the_rayjob_has_known_fields_of_the_right_types() -> None:
    assert faults(rayjob(), RAY_JOB) == []


def test_the_list_of_fields_finds_a_wrong_one() -> None:
    wrong = rayjob()
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0  # has to be text
    wrong["spec"]["backofLimit"] = 6
    assert [fault.rsplit(".", 1)[-1] for fault in faults(wrong, RAY_JOB)] == [
        "num-cpus: 0 should be str",
        "backofLimit: unknown",
    ]


def test_the_rayjob_runs_this_ray_with_a_token_and_tries_again() -> None:
    """The version that is installed here; both groups mount what is shared; the rules between the fields hold."""
    spec = rayjob()["spec"]
    cluster = spec["rayClusterSpec"]
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert pinned and cluster["rayVersion"] == pinned[1]
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"], "the ttl counts only with a shutdown"
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for pod in pods:
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        assert {"name": "shared", "mountPath": "/shared"} in pod["containers"][0]["volumeMounts"]
    starts = [parsed_by_ray(["start", "--head", f"--{key}={value}"])
              for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
              for key, value in group["rayStartParams"].items()]  # fmt: skip
    assert [start["num_cpus"] for start in starts] == [0]


@pytest.mark.parametrize(("code", "job_fails"), [(0, False), (1, False), (2, True), (3, True), (75, True), (137, True)])
def test_kubernetes_tries_again_what_a_retry_can_help(tmp_path: Path, code: int, job_fails: bool) -> None:
    """The entrypoint in a shell, with a scp-ray that ends with the code."""
    entrypoint = rayjob()["spec"]["entrypoint"]
    (tmp_path / "scp-ray").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "scp-ray").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert bool(subprocess.run(shlex.split(entrypoint), env=os.environ | {"PATH": path}).returncode) == job_fails


def test_the_rayjob_names_nodes_that_hold_its_trials() -> None:
    """No node but a head without CPUs is there when the sweep starts, and on KubeRay Ray tells of no other."""
    spec = rayjob()["spec"]
    (inner,) = [word for word in shlex.split(spec["entrypoint"]) if word.startswith("scp-ray")]
    asked = parsed_by_us(words_after("scp-ray", inner))
    resources = SweepConfig.from_dict(read_space(asked.space, overrides=asked.overrides)).resources
    (named,) = resources.node_types
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (f"{named.cpus:g}", str(named.gpus)) == (limits["cpu"], limits["nvidia.com/gpu"])
    assert (named.name, named.max) == (group["groupName"], group["maxReplicas"])
    head = Node("head", cpus=0, gpus=0)
    to_come = nodes_to_come(resources.node_types, [head], enough=resources.scorers + 1)
    bundles = trial_bundles(resources, [head, *to_come])
    assert bundles[0] == {"CPU": 4, "GPU": 1}
    assert fits(bundles, [head, *to_come]) and not fits(bundles, [head])


def test_the_image_gets_what_the_package_is_built_from() -> None:
    text = (ROOT / "deploy" / "kuberay" / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE) for word in line.split()}
    mounts = yaml.safe_load((ROOT / "cluster.yaml").read_text())["file_mounts"]
    assert copied == {local for local in mounts.values() if not local.startswith("~")}


# -- on-premise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ray-head", "ray-worker"])
def test_systemd_takes_the_units_and_ray_their_commands(tmp_path: Path, name: str) -> None:
    unit = (ROOT / "deploy" / "on-premise" / f"{name}.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    options = parsed_by_ray(words_after("ray", command))
    assert options["block"] and options["head"] == (name == "ray-head")
    assert options["dashboard_host"] in (None, "127.0.0.1", "localhost")
    assert "Environment=RAY_AUTH_MODE=token" in unit
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd-analyze is not here")
    # the paths and the user are those of the machine that the unit is for
    here = unit.replace(command.split()[0], shutil.which("true") or "true").replace("User=scp", "User=root")
    path = tmp_path / f"{name}.service"
    path.write_text(here)
    answer = subprocess.run([checker, "verify", str(path)], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
