"""Floor 0: tensors in, tensors out. torch, numpy and scipy only."""
