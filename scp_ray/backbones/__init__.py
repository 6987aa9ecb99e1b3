"""Floor 1: networks and the ordered list of their prunable layers. One file per family."""
