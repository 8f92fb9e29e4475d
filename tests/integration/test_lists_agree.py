"""Lists of names that several packages keep for themselves, and that must agree."""

from __future__ import annotations

from client.app.local_round import VALIDATION_METRICS, RoundReport
from client.egress.report_rules import RANGES
from client.ingest.units import UNITS
from client.privacy.allowlist import PRIVATE_NUMBERS, PUBLIC_NUMBERS
from common.config.run_config import PrivacyConfig
from common.config.sections import BY_NAME_RULES, RANK_MIXING_RULES, RULES
from common.data.vitals import VITAL_NAMES, VITALS
from common.forecasting.reference_ranges import EXPECTED
from server.aggregation.rules import _RULES
from server.report.clinical_text import UNIT_WORDS
from server.rounds.report_validation import validate_report
from server.rounds.site_registry import Member
from simulation.cohorts.mimic.vitals import ITEMS_OF_VITAL
from simulation.cohorts.physionet_challenge.challenge2012 import VITAL_OF_PARAMETER

SCORES = {"wql": 0.5} | {
    f"{metric}.{vital}": 0.5 for metric in VALIDATION_METRICS for vital in VITAL_NAMES
}
REPORT = RoundReport(60, 600, 10, 0.1, SCORES, {"validation": 1.0, "training": 1.0})
JOIN_ONLY = {"validation-windows"}


def test_every_number_of_a_round_is_known_to_allowlist_and_gate() -> None:
    numbers = set(REPORT.numbers())
    assert numbers == (set(PRIVATE_NUMBERS) | PUBLIC_NUMBERS) - JOIN_ONLY
    assert numbers == set(RANGES) - JOIN_ONLY


def test_every_number_of_a_round_is_accepted_by_the_server() -> None:
    member = Member("a", 1, 60, 600, "source", "rule", 60, 8)
    report = validate_report(REPORT.numbers(), member, PrivacyConfig())
    assert report.record() == {
        "steps": 10,
        "patients": 60,
        "windows": 600,
        "loss": 0.1,
        "validation": SCORES,
        "seconds": {"validation": 1.0, "training": 1.0},
    }


def test_every_vital_sign_is_in_each_table_by_vital_sign() -> None:
    for table in (UNITS, EXPECTED, UNIT_WORDS, ITEMS_OF_VITAL):
        assert list(table) == list(VITAL_NAMES)
    assert set(VITAL_OF_PARAMETER.values()) == set(VITAL_NAMES)


def test_plausible_values_are_valid() -> None:
    for vital in VITALS:
        expected = EXPECTED[vital.name]
        assert vital.low <= expected.low < expected.high <= vital.high


def test_every_aggregation_rule_has_its_function() -> None:
    assert set(_RULES) == set(RULES)
    assert set(BY_NAME_RULES) | set(RANK_MIXING_RULES) <= set(RULES)
