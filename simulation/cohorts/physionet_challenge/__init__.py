"""PhysioNet challenges of 2012 and 2019: open ICU records as cohorts of hospitals.

`challenge2012` and `challenge2019` run the steps: `archive` reads the records, `parsing` parses
them, `measurements` cleans and averages the values, `selection` has the rules that both share.
"""

from simulation.cohorts.physionet_challenge.challenge2012 import challenge_2012
from simulation.cohorts.physionet_challenge.challenge2019 import challenge_2019

__all__ = ["challenge_2012", "challenge_2019"]
