"""The MOIRAI models, versions 1 and 2, on uni2ts' networks.

Begin with `moirai` (a mixture distribution) or `moirai2` (quantiles).
`packing` makes tokens of windows; `quantiles` inverts the mixture.
"""
