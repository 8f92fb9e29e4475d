"""Patient-level differential privacy: accounting, budgets, and the allowlist of a site's numbers.

Begin with `budget_session`: the budget of one private round, from request to reply. It uses
`accountant` and `budget_ledger`. `budget_filter` is the node's own budget over all runs;
`allowlist` the numbers that a private site may send. The noisy training is
`client.training.dpsgd`.
"""
