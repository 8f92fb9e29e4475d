"""Reader of torch checkpoints that executes nothing in them.

Begin with `checkpoint`. `opcodes` lists the accepted pickle opcodes, `stack_machine` applies them;
anything else in the file is refused.
"""
