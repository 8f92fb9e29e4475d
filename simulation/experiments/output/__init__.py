"""Output of an experiment: tables, figures and page.

Begin with `html`. `csv` writes the tidy tables, `markdown` the tables of the documents.
"""
