"""Grammars through llguidance: the only users of that library, which is loaded with the first model."""
