"""Floor 1: the bias mitigation that trains the base model. One file per method; base.py holds the contract."""
