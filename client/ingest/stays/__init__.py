"""The stays: which measurement is in which, and which stays a site table keeps.

Begin with `assignment`; `selection` applies the hospital's choice and the rules of the site table.
"""
