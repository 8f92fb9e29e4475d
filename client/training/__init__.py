"""Local training of an adapter, without privacy or by patient-level DP-SGD.

Begin with `adapter_training`, then `dpsgd`. A private step is `poisson_sampling` of patients,
`patient_gradients`, `clipping` and noise from `random_source`. `error_feedback` encodes the result.
"""
