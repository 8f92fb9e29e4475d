"""An experiment's tables, figures and page.

Begin with `html`; `csv` writes the tidy tables, `markdown` those of the documents.
"""
