"""Local training of an adapter, plain or by DP-SGD over patients.

Begin with `adapter_training`, then `dpsgd`.
`clipping`, `patient_gradients` and `poisson_sampling` are its parts.
"""
