"""YAML, profiles and overrides."""

from __future__ import annotations

from typing import Any

import pytest

from scp_ray.config import find_space
from scp_ray.errors import ConfigError, UnknownNameError

TRIAL = {"dataset": {"name": "synthetic", "image_size": 32}, "backbone": "tiny", "pr_c": 0.1, "rounds": 1}
SPACE = {"name": "test", "trial": TRIAL}


def space(trial: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """SPACE with some fields of the trial and some of the top changed; a value of None takes a field away."""
    changed = TRIAL | (trial or {})
    return SPACE | {"trial": {key: value for key, value in changed.items() if value is not None}} | top


def test_yaml_numbers_and_text(read):
    text = "a: 1e-4\nb: 2E3\nc: -1.5e-3\nd: '1e-4'\ne: 1.0e-4\nf: 1e\ng: 3\nh: conv1e4"
    expected = {"a": 0.0001, "b": 2000.0, "c": -0.0015, "d": "1e-4", "e": 0.0001, "f": "1e", "g": 3, "h": "conv1e4"}
    found = read(text)
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in expected.items()}


def test_yaml_anchors_and_merge_keys_are_read(read):
    assert read("a: &plan {lr: 1, epochs: 3}\nb: *plan\nc: {<<: *plan, epochs: 2}") == {
        "a": {"lr": 1, "epochs": 3},
        "b": {"lr": 1, "epochs": 3},
        "c": {"lr": 1, "epochs": 2},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\ntrial: {}\nseeds: [0]\ntrial: {}\n", ["'trial' is given twice", "line 4"]),
        ("trial:\n  rounds: 1\n  train: {lr: 1}\n  rounds: 2\n", ["'rounds' is given twice", "line 4"]),
        ("profiles:\n  p:\n    a.b: 1\n    a.b: 2\n", ["'a.b' is given twice", "line 4"]),
        ("a: !!python/object/apply:os.system ['touch ran']", ["not valid YAML", "python/object/apply:os.system"]),
        ("a: !!python/object:pathlib.Path {}", ["not valid YAML", "python/object"]),
        ("a: !!python/name:os.system", ["not valid YAML", "python/name"]),
        ("a: [1", ["not valid YAML", "line 1"]),
        ("- a", ["a search space is a mapping", "list"]),
        ("", ["a search space is a mapping"]),
        ("? [a]\n: 1", ["line 1", "a key has to be a word"]),
        (b"name: \xff\xfe", ["UTF-8"]),
        ("profiles: 3", ["profiles has to be a mapping", "3"]),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(read, text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert [word for word in ["space.yaml", *words] if word.lower() not in str(caught.value).lower()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


PROFILED = """
trial: {backbone: vgg11, rounds: 5}
profiles:
  smoke: {trial.backbone: tiny, trial.train.lr: 0.5, seeds: [7]}
  odd: 3
  odder: {3: 4}
"""


def test_a_profile_changes_what_it_names_and_is_no_part_of_the_definition(read):
    assert read(PROFILED) == {"trial": {"backbone": "vgg11", "rounds": 5}}
    assert read(PROFILED, profile="smoke") == {
        "trial": {"backbone": "tiny", "rounds": 5, "train": {"lr": 0.5}},
        "seeds": [7],
    }


def test_overrides_win_over_the_profile_in_their_order(read):
    found = read(PROFILED, profile="smoke", overrides=["seeds=[1]", "trial.rounds=2", "trial.rounds=3"])
    assert (found["seeds"], found["trial"]["rounds"], found["trial"]["backbone"]) == ([1], 3, "tiny")


def test_a_profile_of_a_space_without_any_is_refused(read):
    for text in ("name: x", "name: x\nprofiles: {}"):
        with pytest.raises(
            ConfigError, match=r"got the profile 'smoke', and this space has none\. Leave --profile out"
        ):
            read(text, profile="smoke")


def test_an_unknown_profile_names_the_nearest_one(read):
    with pytest.raises(UnknownNameError, match=r"profile 'smok' not found\. Did you mean 'smoke'\?"):
        read(PROFILED, profile="smok")


@pytest.mark.parametrize("profile", ["odd", "odder"])
def test_a_profile_that_holds_no_paths_is_refused(read, profile):
    with pytest.raises(ConfigError, match=profile):
        read(PROFILED, profile=profile)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("grid.pr_c=[0.02]", {"a": {"b": 1}, "c": "snnl", "grid": {"pr_c": [0.02]}}),
        ("a.b=2", {"a": {"b": 2}, "c": "snnl"}),
        ("a.d.e=x", {"a": {"b": 1, "d": {"e": "x"}}, "c": "snnl"}),
        ("c.distance=cosine", {"a": {"b": 1}, "c": {"name": "snnl", "distance": "cosine"}}),
        ("c=random", {"a": {"b": 1}, "c": "random"}),
        ("a.b=1e-4", {"a": {"b": 0.0001}, "c": "snnl"}),
        ("a={name: synthetic, image_size: 64}", {"a": {"name": "synthetic", "image_size": 64}, "c": "snnl"}),
        ("a.root=x=y", {"a": {"b": 1, "root": "x=y"}, "c": "snnl"}),
        ("a.b=true", {"a": {"b": True}, "c": "snnl"}),
    ],
)
def test_an_override_sets_a_dotted_path(read, override, expected):
    assert read("a: {b: 1}\nc: snnl", overrides=[override]) == expected


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a.b", "'a.b': write it as a.b=value"),
        ("=3", "'=3': write it as a.b=value"),
        ("a.b.c.d=3", "a.b is 1, which has no fields"),
        ("a.b=[1", "a.b=[1"),
        ("a={b: 1, b: 2}", "'b' is given twice"),
        ("a=!!python/name:os.system", "not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_set_is_refused(read, override, words):
    with pytest.raises(ConfigError) as caught:
        read("a: {b: 1}", overrides=[override])
    assert words in str(caught.value)


def test_an_unknown_space_names_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"'quickstrat' not found\. Did you mean 'quickstart'\?"):
        find_space("quickstrat")
