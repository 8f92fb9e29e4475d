"""Site tables, cohort folders and the windows cut from them.

Begin with `site_table` (the schema), then `windows`. `step_means` averages measurements into the
rows of a site table; `cohort_writer` writes one table per site and `cohort_folder` their record.
"""
