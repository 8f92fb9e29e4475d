"""Lag-Llama: its network, and the published checkpoint's conversion.

Begin with `lag_llama`; `network` is the transformer, `series` its input and output.
`convert` makes a safetensors folder of the published pickle.
"""
