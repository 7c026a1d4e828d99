"""Requests for vectors and scores: what they may say, and what is answered."""
