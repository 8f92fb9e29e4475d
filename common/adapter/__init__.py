"""The LoRA adapter: pairs of matrices, and the files and messages that hold them.

Begin with `adapter`. `peft_io` reads and writes PEFT folders; `serialization` Flower messages.
`residual` is the low-rank part of an update that the sites do not train; `low_rank` its SVD.
"""
