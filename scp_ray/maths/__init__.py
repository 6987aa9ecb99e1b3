"""Floor 0: tensors in, tensors out. torch and numpy only."""
