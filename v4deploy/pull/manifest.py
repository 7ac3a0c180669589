"""The record of a pull: what was fetched from where, with hashes."""
