"""Floor 4: figures and tables, made from the ledger alone."""
