"""An app that tries to take out what it must not: for the test of the site's gate."""

MARKER = "MEIER-HANS-19480312"
"""Stands for a patient; none of it may be on the wire."""

CASES = (
    "honest",
    "raw table",
    "renamed tensor",
    "extra array",
    "unknown metric",
    "long string",
    "error text",
    "exception",
    "question repeated",
)
