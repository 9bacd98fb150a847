"""What may come from outside: the table of surfaces, each with its inputs and what reads them.

A surface writes an input into a folder; then a reader of the package, or a command, meets it.
"""

from surface import Surface
from surfaces_of_commands import COMMANDS
from surfaces_of_files import FILES
from surfaces_of_models import MODELS
from surfaces_of_results import RESULTS

# Name -> surface.
SURFACES: dict[str, Surface] = FILES | MODELS | RESULTS | COMMANDS
