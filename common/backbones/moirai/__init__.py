"""The MOIRAI models, versions 1 and 2, on uni2ts' networks.

Begin with `moirai` (a mixture distribution) or `moirai2` (quantiles).
`packing` turns windows into tokens, `mixture` is the forecast distribution, `weights` the loader.
"""
