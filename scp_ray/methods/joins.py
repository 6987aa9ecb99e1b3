"""Joins of two methods that have a name of their own."""

from __future__ import annotations

JOINED = {"me-fairprune": ("me", "fairprune")}
