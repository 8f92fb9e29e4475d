"""MIMIC-III tables to one site table a care unit."""
