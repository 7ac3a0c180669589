"""Serving with Ollama: its store on the disk, its API, and the import that comes before the first load."""
