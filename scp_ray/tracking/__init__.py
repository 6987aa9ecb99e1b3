"""Floor 4: trackers. A tracker is a Sink, told live or replayed from the ledger."""
