"""Eq. 1 and its released form term by term, and maps and groups to score."""

from __future__ import annotations

import math

import numpy as np
import torch

RELEASED = {"distance": "cosine", "temperature": 1.0, "self_pair": "numerator_only"}


def maps_of(shape, *, seed=0, scale=1.0, offset=0.0):
    """float32 noise, as a network would hand it over."""
    return torch.from_numpy((np.random.default_rng(seed).normal(size=shape) * scale + offset).astype(np.float32))


def groups_of(count, ones, *, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).permutation(count) < ones).long()


def brute_force(features, groups, *, distance="sqeuclidean", temperature="auto", self_pair="exclude"):
    """Eq. 1 term by term in float64; every sum is shifted by its largest exponent first."""
    rows, groups = features.double().numpy().reshape(*features.shape[:2], -1), groups.tolist()
    count, scores = len(rows), []
    for channel in range(rows.shape[1]):
        maps = rows[:, channel]
        if distance == "cosine":
            maps = [m / math.sqrt(math.fsum(m * m)) for m in maps]
        far = [[math.fsum((a - b) ** 2) for b in maps] for a in maps]
        if distance == "cosine":  # 1 - cos of unit vectors is half their squared distance
            far = [[d / 2 for d in row] for row in far]
        t = temperature
        if t == "auto":
            t = math.fsum(far[i][j] for i in range(count) for j in range(count) if i != j) / (count * (count - 1))
        terms = []
        for i in range(count):
            own = [-far[i][j] / t for j in range(count) if j != i and groups[j] == groups[i]]
            other = [-far[i][j] / t for j in range(count) if groups[j] != groups[i]]
            if self_pair == "numerator_only":
                terms.append(log_sum(own + other) - log_sum([*own, 0.0, math.log(1e-9)]))
            elif own:
                terms.append(softplus(log_sum(other) - log_sum(own)))  # -log(own / (own + other))
        scores.append(math.fsum(terms) / len(terms))
    return scores


def log_sum(exponents):
    top = max(exponents, default=-math.inf)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(e - top) for e in exponents))


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
