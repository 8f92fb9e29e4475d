"""Differential privacy whose unit is the patient."""
