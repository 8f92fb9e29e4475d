"""Roles of a table's columns by their names: patient, stay, time, code, value, unit, bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from client.ingest.suggest.vital_names import folded

# Of names as `folded` gives them without blanks; the first pattern that a column matches wins.
_ROLES: dict[str, tuple[str, ...]] = {
    "patient": (
        r"subjectid|uniquepid|mrn|medicalrecord\w*|patient(en)?(id|no|nr|num|number|nummer|key)?|"
        r"pat(id|nr|no|num)|personid|person|pid|ipp|nip|idpatient|(nr|no|numero)patient|subject",
    ),
    "stay": (
        r"icustayid|stayid|patientunitstayid|unitstayid|icustay|stay(no|nr)?|aufenthalt(s?id|s?nr)?",
        r"encounter(id|no|nr)?|enc|visit(id|no|occurrenceid)|fall(id|nr|nummer|no)|admissionid|"
        r"case(id|no|nr)|episode(id)?|(id|numero|no)sejour|sejour(id)?|hospitalization(id)?",
        r"hadmid",
    ),
    "time": (
        r"charttime|chartedat|observationoffset|nursingchartoffset|measurementdatetime|"
        r"observed?at|observationtime|measured?at|measurementtime|messzeit(punkt)?|messdatum|"
        r"recordedat|record(ed)?dttm|recordedtime|dateheure(mesure)?|horodatage|zeitpunkt|zeitstempel",
        r"timestamp|datetime|datetimestamp|time|zeit|at|visittime|effectivedatetime|iculos|"
        r"date(de)?mesure|heure|datumzeit|datumuhrzeit|offset|minutes|hours?",
        r"measurementdate|date|datum",
    ),
    "code": (
        r"itemid|measurementconceptid|conceptid|vitalcategory|loinc(code)?|code|parameterid|parametercode",
        r"nursingchartcelltypevalname|parameter(name)?|item(name)?|variable(name)?|vital(sign)?|"
        r"measurement|observation|what|bezeichnung|merkmal|libelle|parametre|label|name|signal",
    ),
    "value": (
        r"valuenum|valuenumber|vitalvalue|valueasnumber|numericvalue|resultnum\w*|messwert|wertnum\w*",
        r"value|wert|valeur|result(at)?|resultvalue|nursingchartvalue|ergebnis|reading|measure",
    ),
    "unit": (
        r"valueuom|unit|units|unitname|uom|einheit|unite|unitsourcevalue|masseinheit|unitofmeasure",
    ),
    "start": (
        r"intime|admit(ted)?(at|time)?|admission(time|date|dttm)?|admtime|aufnahme(zeit|datum)?|"
        r"entree|date(d)?entree|in|start(time|at|date)?|stay(start|begin)|icuin(time)?|unitadmit\w*|beginn",
    ),
    "end": (
        r"outtime|discharged?(at|time|date|dttm)?|dischtime|entlassung(szeit|sdatum)?|sortie|"
        r"date(de)?sortie|out|end(time|at|date)?|stayend|icuout(time)?|ende",
    ),
    "flag": (r"sepsis\w*|septic|issepsis|isseptic|septisch|sepsislabel",),
    "state": (r"warning|status|error|iserror|resultstatus|valid|storno|storniert",),
}


def matching(columns: Iterable[str], role: str) -> list[str]:
    """Return the columns that may have a role, the likeliest first.

    Args:
        columns: the columns of a table.
        role: `patient`, `stay`, `time`, `code`, `value`, `unit`, `start`, `end`, `flag`, `state`.
    """
    names = {name: folded(name).replace(" ", "") for name in columns}
    return [
        name
        for pattern in _ROLES[role]
        for name, text in names.items()
        if re.fullmatch(pattern, text)
    ]
