"""Any input gives success or one clear line, and is left as it was; see surfaces.py.

Run: pytest tests/fuzz; SYNPRE_FUZZ=20000 for so many examples over all surfaces.
"""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from surfaces import SURFACES

from hf_synpre.errors import UsageError

EXAMPLES = int(os.environ.get("SYNPRE_FUZZ", "500"))
QUIET = settings(
    max_examples=max(EXAMPLES // len(SURFACES), 1),
    derandomize=True,
    database=None,
    deadline=20_000,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", SURFACES)
def test_any_input_is_read_or_refused_in_one_line(name):
    surface = SURFACES[name]

    @QUIET
    @given(st.data())
    def check(data):
        value = data.draw(surface.values)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "d"
            folder.mkdir()
            try:
                surface.read(folder, value)
            except UsageError as error:
                message = str(error)
                assert message
            assert [file.name for file in Path(place).iterdir()] == ["d"]

    check()
