from __future__ import annotations

from pathlib import Path

import pytest

from client.ingest.mapping.site_mapping import read_mapping
from client.ingest.units import UNITS, check_unit, spellings
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from tests.client.ingest.hospital import LONG, long_mapping


def refused(folder: Path, text: str) -> str:
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_mapping(path)
    message = str(caught.value)
    assert str(path) in message
    return message


def test_a_mapping_is_read_into_sections(tmp_path: Path) -> None:
    mapping = long_mapping(tmp_path, more='[drop]\nSTATUS = [1, "void"]\n')
    assert (mapping.site, mapping.shape) == ("st-mary", "long")
    assert [vital.name for vital in mapping.vitals] == ["heart_rate", "sbp", "temperature_c"]
    sbp = mapping.vitals[1]
    assert sbp.combine == "priority"
    assert [source.codes for source in sbp.sources] == [("ART-S",), ("NBP-S", "CUFF-S")]
    assert [(rule.column, rule.values) for rule in mapping.drop] == [("STATUS", ("1", "void"))]
    assert mapping.rule == "all, at least 0 h, 60 min steps"


GOOD = LONG.format(zone="UTC", stay='id = "enc"', min_hours=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('site = "st-mary"', 'sight = "st-mary"', "sight is unknown; did you mean 'site'?"),
        ('site = "st-mary"', 'site = "../etc"', "a site's name has 1 to 64 letters"),
        ('site = "st-mary"', "", "site is missing"),
        ('shape = "long"', 'shape = "tall"', "unknown shape 'tall'"),
        ('code = "what"\n', "", 'columns.code is missing, which shape = "long" needs'),
        ('patient = "pid"\n', "", "columns.patient is missing"),
        ('time = "at"', 'tiem = "at"', "columns.tiem is unknown; did you mean 'time'?"),
        ('time = "at"', "time = 3", 'columns.time must be a text in "quotes", got 3'),
        ('zone = "UTC"', 'zone = "Europe/Londno"', "did you mean 'Europe/London'?"),
        ('zone = "UTC"', "", "time.zone is missing"),
        (
            'zone = "UTC"',
            'zone = "UTC"\nformat = "DD.MM.YYYY"',
            "format is iso, epoch, epoch-s",
        ),
        ('zone = "UTC"', 'zone = "UTC"\nformat = ["%d %z", "iso"]', "must all be patterns"),
        (
            'zone = "UTC"',
            'zone = "UTC"\nformat = ["%d/%m/%Y", "%m/%d/%Y"]',
            "day and month in both orders, '%d/%m/%Y' and '%m/%d/%Y'",
        ),
        ('codes = ["T"]', 'codes = ["T"]\nunits = ["degC"]', "takes two or more different units"),
        ('codes = ["T"]', 'codes = ["T"]\nunits = ["degC", "°C"]', "two or more different units"),
        ('codes = ["T"]', 'codes = ["T"]\nunits = ["degC", "kPa"]', "has no unit 'kPa'"),
        (
            'codes = ["T"]',
            'codes = ["T"]\nunit = "K"\nunits = ["degC", "degF"]',
            "unit does not go with units",
        ),
        (
            'codes = ["T"]',
            'codes = ["T"]\nunits = ["degC", "degF"]\nlow = 30',
            "low is in one unit and does not go with units",
        ),
        (
            'sources = [{codes = ["ART-S"]}',
            'sources = [{codes = ["ART-S"], units = ["mmHg", "cmH2O"]}',
            "mmHg, cmH2O cannot be told apart by range",
        ),
        ('codes = ["T"]', 'codes = ["T"]\nunit-column = "u"', 'goes with shape = "wide"'),
        ("[stay]", '[units]\nGrad = "celsios"\n[stay]', "no vital sign has a unit 'celsios'"),
        ('zone = "UTC"', 'zone = "UTC"\nfold = "both"', "unknown time.fold 'both'"),
        ('id = "enc"', "", "stay needs id, start or gap-hours"),
        ('id = "enc"', 'id = "enc"\ngap-hours = 4', "gap-hours does not go with id"),
        ('id = "enc"', 'id = "enc"\nend = "out"', "end needs start"),
        ('id = "enc"', 'id = "enc"\ntable = "s.csv"', "stay.start is missing"),
        (
            "[cohort]",
            '[patients]\nage = "years"\n[cohort]',
            "patients names columns of a table of stays",
        ),
        ('id = "enc"', 'id = "enc"\nmax-days = 0', "max-days must be at least 1, got 0"),
        ('rule = "all"', 'rule = ""', "rule is empty"),
        ('rule = "all"', 'rule = "all"\nkeep-patient = "x"', "did you mean 'keep-patients'?"),
        ("[vitals.heart_rate]", "[vitals.hart_rate]", "did you mean 'heart_rate'?"),
        ('codes = ["HR"]', 'column = "HR"', 'vitals.heart_rate needs codes where shape = "long"'),
        ('codes = ["HR"]', 'codes = ["T"]', "the code 'T' for two vital signs"),
        ('codes = ["HR"]', 'codes = ["HR"]\nunit = "mmHg"', "heart_rate has no unit 'mmHg'"),
        ('codes = ["HR"]', "codes = []", "vitals.heart_rate.codes takes a list of texts"),
        ('"priority"', '"median"', "unknown vitals.sbp.combine 'median'"),
        ("[columns]", "[columns", "is not TOML"),
        (
            "[stay]",
            '[source]\nattach = "oracle"\n[stay]',
            "source.attach must be one of: sqlite, postgres, duckdb, got 'oracle'",
        ),
        ("[stay]", '[source]\nquery = "SELECT 1"\n[stay]', "attach is missing"),
        ("[stay]", '[source]\nattach = "sqlite"\ndatabase = "a"\n[stay]', "query is missing"),
        ("[stay]", '[file]\ndelimiter = ",,"\n[stay]', "delimiter is one character"),
        ("[stay]", '[table]\nstep-minutes = "hour"\n[stay]', "must be a whole number"),
        ("[stay]", "[table]\nstep-minutes = true\n[stay]", "must be a whole number, got True"),
        ("[stay]", "[table]\nstep_minutes = 5\n[stay]", "did you mean 'step-minutes'?"),
        ("[stay]", "[ids]\nhash = 1\n[stay]", "ids.hash must be true or false, got 1"),
        ("[stay]", "[drop]\nSTATUS = []\n[stay]", "drop.STATUS takes a list of texts, got []"),
        ("[stay]", "[drop]\nSTATUS = 1.5\n[stay]", "drop.STATUS takes a list of texts, got 1.5"),
        (
            'site = "st-mary"',
            'site = "st-mary"\nsha256 = "0"',
            "sha256 is unknown; did you mean",
        ),
        ('site = "st-mary"', 'site = "st-mary"\n_folder = "/"', "_folder is unknown"),
        ('codes = ["HR"]', "sources = []", "vitals.heart_rate.sources must not be empty"),
        ('codes = ["HR"]', 'codes = ["HR"]\nsources = [{ codes = ["H"] }]', "does not go with"),
        ('codes = ["HR"]', 'codes = ["HR"]\nlow = nan', "heart_rate.low must be a number, got nan"),
    ],
)
def test_a_mistake_is_named_with_its_section(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    assert message in refused(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    "database",
    ["host=db user=a password=geheim", "postgresql://a:geheim@db/x", "user=a PASSWORD = geheim"],
)
def test_a_password_is_refused_and_not_repeated(tmp_path: Path, database: str) -> None:
    source = f'[source]\nattach = "postgres"\ndatabase = "{database}"\nquery = "SELECT 1"\n'
    message = refused(tmp_path, GOOD + source)
    assert "PGPASSFILE" in message
    assert "geheim" not in message


def test_a_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read: No such file"):
        read_mapping(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("vital", "unit", "value", "expected"),
    [
        ("temperature_c", "°F", 98.6, 37.0),
        ("temperature_c", "deg F", 212.0, 100.0),
        ("temperature_c", "K", 310.15, 37.0),
        ("sbp", "kPa", 16.0, 120.01),
        ("mbp", "cm[H2O]", 100.0, 73.556),
        ("spo2", "fraction", 0.97, 97.0),
        ("spo2", "%", 97.0, 97.0),
        ("heart_rate", "beats/min", 80.0, 80.0),
    ],
)
def test_units(vital: str, unit: str, value: float, expected: float) -> None:
    assert check_unit(vital, unit).convert(value) == pytest.approx(expected, abs=5e-3)


def test_every_vital_has_units_whose_spellings_differ() -> None:
    assert set(UNITS) == set(VITAL_NAMES)
    for units in UNITS.values():
        assert (units[0].subtract, units[0].multiply, units[0].divide) == (0, 1, 1)
        texts = [text for unit in units for text in spellings(unit)]
        assert len(texts) == len(set(texts))
