"""Starts an engine, watches it, tells whether it answers, and stops it with all that it started."""
