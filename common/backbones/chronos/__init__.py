"""The Chronos models: Bolt, T5 and Chronos-2.

Begin with `chronos_bolt`, the default backbone.
`token_sampling` draws the sample paths of T5.
"""
