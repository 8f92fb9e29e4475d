"""First mapping of a hospital's files, from their headers and values: `ingest --suggest`.

Begin with `suggestion`. Names of columns and known codes go into the mapping, values never do.

sample.py         the first rows of a file
column_roles.py   columns of patient, stay, time, code, value, unit by their names
vital_names.py    vital signs by English, German and French names and by common codes
value_units.py    unit of a vital sign by the range of its values; decimal sign
time_format.py    format and zone of times by their texts
mapping_text.py   the mapping as TOML with a comment at each line
"""
