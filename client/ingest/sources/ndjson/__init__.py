"""NDJSON, an object a line: resources of a FHIR Bulk export, or flat records.

Begin with `ndjson_file`; `fhir_columns` has the columns that each FHIR resource is read as.
"""
