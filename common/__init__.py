"""Code that client and server share; imports nothing else of fedvitals.

Begin with `adapter` (what is exchanged), `data` (what is trained on), `config` (the settings).
`backbones` has the models, `evaluation` the metrics, `forecasting` the forecasts of patients,
`reporting` the parts of a report.
"""
