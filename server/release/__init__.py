"""Evaluation of a global adapter, and the released PEFT folder.

Begin with `evaluation`, then `release`.
`adapter_source` loads the adapter; `evaluation_data` the patients.
"""
