"""Files: atomic writes, SHA-256, and where fedvitals keeps its own.

Begin with `atomic_io`: a file or folder is whole or absent.
`hashing` names a file by its SHA-256; `paths` has the folders below FEDVITALS_HOME.
"""
