"""The bodies of the commands: read, hand over, show. Data goes to stdout, everything else to stderr."""
