"""Lag-Llama: its network, and the conversion of the published checkpoint.

Begin with `lag_llama`. `network` is the transformer, `series` its input and output, `convert` turns
the published pickle into a folder of safetensors.
"""
