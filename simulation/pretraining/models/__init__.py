"""The nano models, a file per architecture.

Begin with `chronos_bolt_nano`, the default backbone.
"""
