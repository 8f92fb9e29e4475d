"""The PhysioNet challenges of 2012 and 2019: open ICU records as cohorts of hospitals."""

from simulation.cohorts.physionet_challenge.challenge2012 import challenge_2012
from simulation.cohorts.physionet_challenge.challenge2019 import challenge_2019

__all__ = ["challenge_2012", "challenge_2019"]
