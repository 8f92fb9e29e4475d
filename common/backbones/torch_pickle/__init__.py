"""A reader of torch checkpoints that executes nothing.

Begin with `checkpoint`; `opcodes` are the few that are read, `stack_machine` applies them.
Anything else in the file is refused.
"""
