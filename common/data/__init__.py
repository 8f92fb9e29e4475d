"""Site tables, cohort folders and the windows cut from them.

Begin with `site_table` (the schema), then `windows`.
`cohort_folder` and `cohort_writer` hold one table per site and their record.
"""
