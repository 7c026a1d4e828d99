"""Grammars in llguidance's dialect of Lark, and the JSON schemas in them."""
