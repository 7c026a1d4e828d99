"""What can go wrong on the way to a model file."""


class ModelFileError(Exception):
    """A model file cannot be had; the text says why and what to do. One line."""
