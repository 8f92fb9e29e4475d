"""The report of a run: one self-contained HTML page, a file a section."""
