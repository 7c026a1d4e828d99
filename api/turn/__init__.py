"""A model's turn in a chat, read from its output, and how the APIs write it."""
