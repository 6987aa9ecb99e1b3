"""Floor 1: what ranks the channels of a layer. One file per criterion; base.py holds the contract."""
