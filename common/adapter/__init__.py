"""The LoRA adapter: pairs of matrices, and the files and messages that hold them.

Begin with `adapter`. `peft_io` reads and writes PEFT folders; `serialization/` messages.
`residual` is the low-rank part beside it that no site trains.
"""
