"""Floor 2: training, evaluating, stopping, and the pruning loop (read rounds.py first)."""
