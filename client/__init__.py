"""The hospital's side: ingest, training, privacy and the control over what leaves."""
