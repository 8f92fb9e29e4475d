"""The stays: which measurement is in which, and which stays a site table keeps.

Begin with `assignment`. `stay_table` loads a table of stays, `stay_rows` has their bounds in UTC;
`selection` applies the hospital's choice and the rules of the site table.
"""
