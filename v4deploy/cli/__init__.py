"""The command line: options in, commands called, results printed. Nothing is decided here."""
