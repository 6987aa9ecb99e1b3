"""Floor 1: data sets with sensitive attributes, and the batches made of them. One file per data set."""
