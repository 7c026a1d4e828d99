"""What the routes answer, as shapes for the description: the replies themselves are written elsewhere.

A field that is UNSET by default may be missing. Tests compare the shapes with real replies, in both directions.
"""
