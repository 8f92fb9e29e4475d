"""mapping.toml: a hospital's description of its own table.

Begin with `site_mapping`, the whole file; `sections` has its sections.
"""
