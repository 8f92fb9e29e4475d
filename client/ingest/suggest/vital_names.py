"""Names and codes of the vital signs: English, German, French, LOINC, OMOP, MIMIC and eICU.

Sources: LOINC 2.78; OMOP's standard concepts; the items of MIT-LCP/mimic-code's `pivoted_vital` and
`vitalsign`; the columns of eICU-CRD's vitalPeriodic, vitalAperiodic and nurseCharting.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class VitalName:
    """What a name or code of a vital sign says.

    Attributes:
        vital: the vital sign.
        is_invasive: True if it is measured in an artery.
        is_sure: False if the name is also used for something else.
    """

    vital: str
    is_invasive: bool = False
    is_sure: bool = True


_CODES: dict[str, tuple[str, ...]] = {
    # LOINC | OMOP | MIMIC-III CareVue | MetaVision (MIMIC-III and -IV)
    "heart_rate": ("8867-4", "8889-8", "3027018", "211", "220045"),
    "sbp": ("8480-6", "76534-7", "3004249", "455", "442", "220179"),
    "dbp": ("8462-4", "76535-4", "3012888", "8441", "8440", "220180"),
    "mbp": ("8478-0", "76536-2", "3027598", "456", "443", "220181"),
    "resp_rate": ("9279-1", "3024171", "618", "615", "220210", "224690"),
    "temperature_c": ("8310-5", "3020891", "678", "676", "223761", "223762"),
    "spo2": ("59408-5", "2708-6", "40762499", "3016502", "646", "220277"),
}
_INVASIVE_CODES: dict[str, tuple[str, ...]] = {
    "sbp": ("76215-3", "51", "6701", "220050", "225309"),
    "dbp": ("76213-8", "8368", "8555", "220051", "225310"),
    "mbp": ("76214-6", "52", "6702", "220052", "225312"),
}
_BY_CODE = {
    code: VitalName(vital, invasive)
    for table, invasive in ((_CODES, False), (_INVASIVE_CODES, True))
    for vital, codes in table.items()
    for code in codes
}

# Of a name in lower case without accents, its parts joined by blanks. Whole name, or in it.
_WHOLE: dict[str, tuple[str, ...]] = {
    "heart_rate": ("hr", "hf", "fc", "pulse", "puls", "pouls", "herzfreq", "pulsfrequenz"),
    "sbp": ("sbp", "sys", "syst", "systolic", "pas", "tas", "rrs", "bps", "sap"),
    "dbp": ("dbp", "dia", "diast", "diastolic", "pad", "tad", "rrd", "bpd", "dap"),
    "mbp": ("map", "mbp", "mad", "pam", "tam", "rrm", "systemicmean", "noninvasivemean"),
    "resp_rate": (
        "rr",
        "af",
        "fr",
        "resp",
        "respiration",
        "breaths",
        "atmung",
        "atemfreq",
        "resps",
    ),
    "temperature_c": ("t", "temp", "temperature", "temperatur", "bt", "kt"),
    "spo2": ("spo 2", "sp o 2", "o 2 sat", "sao 2", "sat", "sats", "sato 2", "sp o2", "so 2"),
}
_WITHIN: dict[str, str] = {
    "heart_rate": r"heart ?rate|herzfrequenz|frequence cardiaque|pulse rate|freq card",
    "resp_rate": r"resp\w* ?rate|freq resp|atemfrequenz|frequence respiratoire|"
    r"breathing|atemzuge|^resp\b",
    "temperature_c": r"\btemp(erature?)?\b|temperatur|^temp",
    "spo2": r"\bspo 2\b|\bsao 2\b|o 2 ?sat|sauerstoffsattigung|oxygen saturation|"
    r"saturation (en )?o|pulse ?ox|\bsattigung\b",
    "mbp": r"mean (arterial|art|bp|blood|ap)|(bp|art\w*|pressure) mean|mittlerer|mitteldruck|"
    r"moyenne|"
    r"\b(art|nbp|nibp|abp|ibp|bp|rr|cuff|non ?invasive bp|invasive bp) (m|map|mean|mit\w*|moy)\b|"
    r"\bmap\b",
    "sbp": r"systol|\b(art|nbp|nibp|abp|ibp|bp|rr|cuff|pa) (s|sys|syst)\b|\bsys\b",
    "dbp": r"diastol|\b(art|nbp|nibp|abp|ibp|bp|rr|cuff|pa) (d|dia|diast)\b|\bdia\b",
}
_INVASIVE = re.compile(r"\b(art|arterial|arteriell|abp|ibp|invasi\w*|systemic\w*|arterielle)\b")
_CUFF = re.compile(r"\b(non ?invas\w*|noninvasi\w*|nbp|nibp|cuff|nicht ?invas\w*)")
_NOT_A_VITAL = re.compile(
    r"alarm|alert|limit|target|goal|\bset\b|setting|ziel|grenz|pulmon|\bpap?\b$|"
    r"\bcvp|intracran|ventilator|tidal|spont|source|site|method|device|route|rhythm|probe|ambient|"
    r"\bblood temp|water|venous|svo 2|scvo|fio 2|\bset ?point|quality|comment|kommentar|position"
)
_TWO_MEANINGS = {"rr", "t", "sat", "mad", "sys", "dia", "pas", "pad", "af", "fr", "fc", "so 2"}


def folded(name: str) -> str:
    """Return a name in lower case without accents, its parts separated by one blank each."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) if not name.isupper() else name
    plain = unicodedata.normalize("NFKD", spaced.replace("ß", "ss").casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    letters = re.sub(r"[^a-z0-9]+", " ", letters)
    letters = re.sub(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])", " ", letters)
    return " ".join(letters.split())


def vital_of_code(code: str) -> VitalName | None:
    """Return the vital sign of a code or of a text in the column of codes; None if it is none."""
    return _BY_CODE.get(code.strip()) or vital_of_name(code)


def vital_of_name(name: str) -> VitalName | None:
    """Return the vital sign that a name stands for; None if it is none.

    Args:
        name: of a column, or a text in a column of codes.
    """
    if len(name) > 80:
        return None
    text = folded(name)
    if not text or _NOT_A_VITAL.search(text):
        return None
    invasive = bool(_INVASIVE.search(text)) and not _CUFF.search(text)
    bare = re.sub(
        r" (c|f|k|celsius|fahrenheit|mm ?hg|kpa|bpm|min|pct|percent|value|wert)$", "", text
    )
    for vital, names in _WHOLE.items():
        if bare in names or bare.replace(" ", "") in names:
            return VitalName(vital, invasive, bare not in _TWO_MEANINGS)
    for vital, pattern in _WITHIN.items():
        if re.search(pattern, text):
            return VitalName(vital, invasive)
    return None
