"""Writes the reference pages under docs/ from the code: ``python -m tools.docs``."""
