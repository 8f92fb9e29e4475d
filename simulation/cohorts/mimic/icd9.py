"""ICD-9-CM codes of the sepsis rules, each list with its source.

MIMIC stores codes without the dot and with their leading zeros (995.92 is ``99592``, 038 is
``038``). A list entry matches every code that begins with it, like a category of ICD-9.
"""

from __future__ import annotations

SEPSIS_CODES: tuple[str, ...] = ("99591",)
"""Sepsis, 995.91."""

SEVERE_SEPSIS_CODES: tuple[str, ...] = ("99592",)
"""Severe sepsis, 995.92."""

SEPTIC_SHOCK_CODES: tuple[str, ...] = ("78552",)
"""Septic shock, 785.52."""

# Angus et al. 2001, doi 10.1097/00003246-200107000-00002, appendices 1 and 2.
ANGUS_INFECTION_CODES: tuple[str, ...] = (
    *("001", "002", "003", "004", "005", "008", "009"),  # intestinal
    *("010", "011", "012", "013", "014", "015", "016", "017", "018"),  # tuberculosis
    *("020", "021", "022", "023", "024", "025", "026", "027"),  # zoonotic bacterial
    *("030", "031", "032", "033", "034", "035", "036", "037", "038", "039", "040", "041"),
    *("090", "091", "092", "093", "094", "095", "096", "097", "098"),  # syphilis, gonococcal
    *("100", "101", "102", "103", "104"),  # other spirochaetal
    *("110", "111", "112", "114", "115", "116", "117", "118"),  # mycoses
    *("320", "322", "324", "325"),  # meningitis, intracranial abscess, phlebitis
    *("420", "421", "451"),  # pericarditis, endocarditis, thrombophlebitis
    *("461", "462", "463", "464", "465"),  # acute upper respiratory
    *("481", "482", "485", "486", "49121", "494", "510", "513"),  # lower respiratory
    *("540", "541", "542", "56201", "56203", "56211", "56213"),  # appendicitis, diverticulitis
    *("566", "567", "5695", "56983", "5720", "5721", "5750"),  # other abdominal
    *("590", "597", "5990", "601", "614", "615", "616"),  # urogenital
    *("681", "682", "683", "686", "7110", "730"),  # skin, joint, bone
    *("7907", "9966", "9985", "9993"),  # bacteraemia; device, operation, infusion
)

ANGUS_ORGAN_CODES: tuple[str, ...] = (
    *("7855", "458"),  # cardiovascular: shock without trauma, hypotension
    *("3483", "293", "3481"),  # neurological: encephalopathy, transient psychosis, anoxia
    *("2874", "2875", "2869", "2866"),  # haematological
    *("570", "5734"),  # hepatic
    "584",  # renal
)

ANGUS_VENTILATION_PROCEDURES: tuple[str, ...] = ("9670", "9671", "9672")
"""Continuous mechanical ventilation of unspecified length, under 96 h, 96 h or longer."""

# Martin et al. 2003, doi 10.1056/NEJMoa022139.
MARTIN_SEPTICAEMIA_CODES: tuple[str, ...] = (
    "038",  # septicaemia
    "0202",  # septicaemic plague
    "7907",  # bacteraemia
    *("1179", "1125", "11281"),  # disseminated fungal, candidal; candidal endocarditis
)

MARTIN_ORGAN_CODES: tuple[str, ...] = (
    *("51881", "51882", "51885", "78609", "7991"),  # respiratory
    *("4580", "4588", "4589", "7855", "7963"),  # cardiovascular
    *("580", "584", "585"),  # renal
    *("570", "5722", "5733"),  # hepatic
    *("2862", "2866", "2869", "2873", "2874", "2875"),  # haematological
    "2762",  # metabolic: acidosis
    *("293", "3481", "3483", "78001", "78009"),  # neurological
)

# Haemodialysis and electroencephalogram. Martin's list also has ventilation (96.7), but the
# published figures for MIMIC-III (Johnson et al. 2018, doi 10.1097/CCM.0000000000002965) match the
# code 967 exactly, which no admission has: ventilation counts only through diagnoses of respiratory
# failure, here as there.
MARTIN_ORGAN_PROCEDURES: tuple[str, ...] = ("3995", "8914")
