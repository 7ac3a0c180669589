"""Templates and values to files, without touching a disk."""
