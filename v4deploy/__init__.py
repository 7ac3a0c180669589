"""Self-hosting and deployment toolkit for the open DeepSeek V4 weights."""

__version__ = "0.1.0"
