"""The frozen foundation models behind one interface, a folder per family.

Begin with `base` (the interface) and `catalog` (the models by name).
`loading` loads one by name or folder; `lora` puts an adapter onto it.
"""
