"""When the loop stops, and which round speaks for a trial."""

from __future__ import annotations

import pytest

from scp_ray.errors import ConfigError
from scp_ray.loop.stopping import Standing, StopRule, parse_select, select_round, stop_reason

NAN = float("nan")


@pytest.mark.parametrize(
    ("rule", "fates", "stopped_at", "expected"),
    [
        ("best_val_fate", [0.0, 0.1, 0.3, 0.2], None, 2),
        ("best_val_fate", [0.0, 0.3, 0.3], None, 1),
        ("best_val_fate", [0.0, -0.1, -0.2], None, 0),
        ("best_val_fate", [0.0, 0.0, 0.0], None, 0),
        ("best_val_fate", [0.0, NAN, 0.2], None, 2),
        ("best_val_fate", [0.0, NAN, -0.2], None, 0),
        ("best_val_fate", [NAN, NAN], None, 0),
        ("best_val_fate", [0.0, 0.1, 0.3], 1, 2),
        ("best_val_fate", [0.0], None, 0),
        ("round:0", [0.0, 0.1], None, 0),
        ("round:2", [0.0, 0.1, 0.2, 0.3], None, 2),
        ("round:9", [0.0, 0.1, 0.2], None, 2),
        ("last", [0.0, 0.3, 0.1], None, 2),
        ("last", [0.0, 0.3, 0.1], 2, 1),
        ("last", [0.0, 0.3, 0.1], 1, 0),
        ("last", [0.0], None, 0),
    ],
)
def test_select_round(rule, fates, stopped_at, expected):
    reasons = ["fairness" if stopped_at is not None and index >= stopped_at else "" for index in range(len(fates))]
    assert select_round(rule, fates, reasons) == expected


def test_last_is_the_round_before_the_first_stop_though_later_ones_are_fine():
    assert select_round("last", [0.0, 0.1, 0.2, 0.3], ["", "", "accuracy", ""]) == 1


@pytest.mark.parametrize(
    "rule", ["best", "round", "round:", "round:-1", "round:1.5", "round:x", "round:1 ", "LAST", ""]
)
def test_a_rule_that_selects_nothing_is_refused(rule):
    with pytest.raises(ConfigError, match=r"select: got .*'best_val_fate', 'last' and 'round:n'"):
        parse_select(rule)


@pytest.mark.parametrize(
    ("first", "before", "now", "rule", "expected"),
    [
        # (F1_0 - F1_t) / F1_0 > th_acc, on numbers that a float holds exactly
        ((0.5, 0.9), (0.5, 0.9), (0.25, 0.1), {"th_acc": 0.5}, ""),
        ((0.5, 0.9), (0.5, 0.9), (0.2499, 0.1), {"th_acc": 0.5}, "accuracy"),
        ((0.5, 0.9), (0.25, 0.9), (0.249, 0.1), {"th_acc": 0.5}, "accuracy"),  # against round 0, not the one before
        ((0.5, 0.9), (0.9, 0.9), (0.5, 0.1), {"th_acc": 0.0}, ""),
        ((0.5, 0.9), (0.9, 0.9), (0.499, 0.1), {"th_acc": 0.0}, "accuracy"),
        ((0.5, 0.9), (0.5, 0.9), (0.9, 0.1), {"th_acc": 0.0}, ""),
        ((0.0, 0.9), (0.0, 0.9), (0.0, 0.1), {"th_acc": 0.0}, ""),
        # FC_{t-1} - FC_t < th_fair
        ((0.5, 0.25), (0.5, 0.25), (0.5, 0.25), {"th_fair": 0.0}, ""),
        ((0.5, 0.25), (0.5, 0.25), (0.5, 0.2501), {"th_fair": 0.0}, "fairness"),
        ((0.5, 0.5), (0.5, 0.5), (0.5, 0.375), {"th_fair": 0.125}, ""),
        ((0.5, 0.5), (0.5, 0.5), (0.5, 0.376), {"th_fair": 0.125}, "fairness"),
        ((0.5, 0.1), (0.5, 0.5), (0.5, 0.3), {"th_fair": 0.0}, ""),  # against the round before, not round 0
        ((0.5, 0.25), (0.5, 0.25), (0.5, 0.5), {"th_fair": -0.25}, ""),
        # both, and the undefined
        ((0.5, 0.1), (0.5, 0.1), (0.1, 0.2), {}, "accuracy"),
        ((0.5, NAN), (0.5, NAN), (0.5, 0.9), {}, ""),
        ((0.5, 0.1), (0.5, 0.1), (0.5, NAN), {}, ""),
        ((NAN, 0.5), (0.5, 0.5), (0.1, 0.4), {}, ""),
        ((0.5, 0.5), (0.5, 0.5), (NAN, 0.4), {}, ""),
        ((0.5, 0.5), (0.5, 0.5), (NAN, 0.6), {}, "fairness"),
    ],
)
@pytest.mark.parametrize("enforce", [False, True])
def test_stop_reason(first, before, now, rule, expected, enforce):
    reason = stop_reason(Standing(*first), Standing(*before), Standing(*now), StopRule(**rule, enforce=enforce))
    assert reason.partition(":")[0] == expected


def test_the_stop_rule_stands_at_the_papers_thresholds():
    assert StopRule() == StopRule(th_acc=0.03, th_fair=0.0, gap="eodd", enforce=False)
    words = stop_reason(
        Standing(0.5, 0.3), Standing(0.5, 0.3), Standing(0.5, 0.31), StopRule(th_fair=0.02, gap="eopp1")
    )
    assert "eopp1 went from 0.3000 to 0.3100" in words
    assert "th_fair 0.02" in words
