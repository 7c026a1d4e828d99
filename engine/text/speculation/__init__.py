"""Speculative decoding: guesses of what comes next, checked many at a time in the decode that happens anyway."""
