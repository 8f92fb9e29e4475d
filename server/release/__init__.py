"""Evaluation of a global adapter, and the release: PEFT folder, model card and report.

Begin with `evaluation`, then `release`; `server.report` writes the report and the model card.
`adapter_source` loads the adapter, `evaluation_data` the patients' windows.
"""
