"""What v4deploy talks about: frozen values, integers for bytes, None for unknown. Standard library only."""
