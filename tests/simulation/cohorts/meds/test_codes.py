from __future__ import annotations

from pathlib import Path

from simulation.cohorts.meds.codes import MIMIC_IV_CODES, read_codes
from simulation.cohorts.mimic.vitals import ITEMS_OF_VITAL
from simulation.cohorts.mimic4.care_units import SITE_OF_UNIT


def test_the_codes_of_mimic_iv_are_its_items_and_units() -> None:
    codes = read_codes()
    assert codes.sites.names == SITE_OF_UNIT
    vital_of_item = dict(enumerate(codes.items()))
    for vital, items in ITEMS_OF_VITAL.items():
        for item in items.metavision:
            number = codes.item_of(f"LAB//{item}//unit")
            assert number is not None
            one = vital_of_item[number]
            assert one.vital == vital
            assert (one.unit.name == "degF") == (item in items.fahrenheit)
    assert codes.item_of("LAB//211//bpm") is None
    assert codes.item_of("LAB//2200450//bpm") is None


def test_a_site_is_the_text_of_the_star_or_the_whole_code(tmp_path: Path) -> None:
    path = tmp_path / "codes.toml"
    text = MIMIC_IV_CODES.read_text()
    path.write_text(text.replace('codes = ["ICU_ADMISSION//*"]', 'codes = ["A//*//in", "B"]'))
    codes = read_codes(path)
    found = [codes.site_text(code) for code in ("A//x//in", "B", "A//x", "B//x", "a//x//in")]
    assert found == ["x", "B", None, None, None]
