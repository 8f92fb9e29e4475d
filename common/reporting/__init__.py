"""Building blocks of reports: HTML pages, figures, Markdown tables, and numbers in words.

Begin with `components`, the parts of a page; `template` and `style` render them.
`phrasing` formats numbers and intervals as text, `svg` draws figures.
`export` writes tables and figures as files.
"""
