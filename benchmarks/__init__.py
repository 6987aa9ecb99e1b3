"""What performance is judged by: one file per figure."""
