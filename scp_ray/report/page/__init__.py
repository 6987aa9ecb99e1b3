"""A sweep as one page that opens from disk: words first, then curves, tables and how to do it again."""
