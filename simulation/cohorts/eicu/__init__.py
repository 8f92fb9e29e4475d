"""eICU-CRD tables to one site table per hospital, or per region, unit type or kind of hospital.

`cohort` runs the steps: `sites` names the sites, `sepsis` selects the stays, `vitals` averages the
measurements of the bedside `monitor` and of `nurse_charting`. `schema` has the tables read. A pass
over the monitor's rows cleans them (`monitor_values`), sums them per batch (`monitor_sums`) and
finds moments with several rows (`repeated_moments`).
"""
