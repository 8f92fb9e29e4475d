"""Excel and OpenDocument workbooks, read by calamine.

Begin with `workbook`; `sheet_columns` finds the types of columns, `workbook_limits` refuses a sheet
that memory cannot hold.
"""
