"""Report and model card of a run, one file per section.

Begin with `run_report`, which lists the sections in their order; `model_card` is the other text.
`clinical_text` has the sentences that both share. The building blocks are in `common.reporting`.
"""
