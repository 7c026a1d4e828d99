"""Texts to vectors and to scores: many texts a decode, beside the generation on the same loaded model."""
