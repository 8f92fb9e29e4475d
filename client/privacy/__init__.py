"""Differential privacy whose unit is the patient: accounting, and what may be reported.

Begin with `budget_session`: one private round, from request to reply.
The noisy training itself is `client.training.dpsgd`.
"""
