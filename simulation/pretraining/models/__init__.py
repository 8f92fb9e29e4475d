"""The nano models, one file per architecture.

Begin with `chronos_bolt_nano`, the default backbone. Every file defines a recipe, `build`,
`window_loss`, `predict_quantiles`, and the `NanoModel` that joins them.
"""
