"""Floor 5: the command line. One file per subcommand: parse, wire the rooms together, print."""
