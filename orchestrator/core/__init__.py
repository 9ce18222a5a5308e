"""The decisions, pure: from values to values. Nothing here reads a clock, a file, a socket or a database."""
