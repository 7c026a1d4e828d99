"""Finds out a template's format by rendering it twice with one thing changed and looking at the difference."""
