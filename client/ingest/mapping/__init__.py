"""mapping.toml: a hospital's description of its own table.

Begin with `site_mapping`, the whole file and the rules across its sections.

source_sections.py  where the rows are, and their columns
clock.py            formats and zone of times
stay_sections.py    the stays, and which of them to keep
vital_sections.py   the vital signs, and what the site table is like
text_lists.py       lists of codes and values
"""
