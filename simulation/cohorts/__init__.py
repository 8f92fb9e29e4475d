"""Public sources of ICU data as cohorts, a folder per source.

Begin with `mimic4.cohort`; `mimic` has the code that it shares with `mimic3`. `meds` reads events
by a table of codes, `physionet_challenge` has the open records of 2012 and 2019, `synthetic` writes
a hospital in MIMIC-III's layout without any patient. `source_tables` loads the tables of a data
set's folder by its layout, `charted_vitals` cleans and averages charted values.

To add a source, write a function that returns `common.data.cohort_writer.Cohort`, and add a command
and an entry of `SOURCES` to `simulation.cli.prepare`.
"""

ADULT_YEARS = 18
"""Least age of a patient, in every cohort."""
