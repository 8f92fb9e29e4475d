"""Building blocks of HTML reports and of text with numbers.

Begin with `components`; `phrasing` puts numbers and intervals into words.
`template` and `style` are the page; the figures are the report's own.
"""
