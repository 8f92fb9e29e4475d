"""The frozen foundation models behind one interface, one folder per family.

Begin with `base` (the interface and the steps to add a family) and `catalog` (the models).
`loading` loads a model by name or folder; `lora` adds an adapter to it, in the layers that the
family's class names (`attention`, `feed_forward`).
"""
