"""Floor 4: trials on Ray Tune. Ray is imported by the files that need it, not here."""
