"""DataEngineerFlow360: a data engineering course over live services.

A notebook imports `flow360.lesson`, `flow360.clients` and its module of `flow360.checks`; the command line is
`flow360.cli`.
"""

__version__ = "0.1.0"
