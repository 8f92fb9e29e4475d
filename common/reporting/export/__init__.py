"""Tables and figures of a page as files: CSV, LaTeX, SVG and PDF.

Begin with `export`: it writes every table and figure of a page into a folder.
`table_files` writes a table, `figure_files` a figure with its legend.
"""
