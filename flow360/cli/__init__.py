"""The command line: `flow360 --help`.

Thin: each command calls one thing of the package and shows its answer. A module holds the commands of one panel of the
help, and joins them to the application when it is imported, in the panels' order.
"""

from flow360.cli.application import app  # isort: split

from flow360.cli import services  # isort: split

from flow360.cli import learning  # isort: split

from flow360.cli import following  # isort: split

from flow360.cli import teaching  # isort: split

from flow360.cli import upkeep

__all__ = ["app", "following", "learning", "services", "teaching", "upkeep"]
