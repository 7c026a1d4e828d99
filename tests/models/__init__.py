"""Tiny models, written when the tests run."""
