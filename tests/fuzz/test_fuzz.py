"""Any input is read, or refused in one clear line, and is left as it was; see surfaces.py.

Run: pytest tests/fuzz; `make fuzz` for 20,000 inputs.
"""

import pytest
from harness import outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from surfaces import SURFACES

EXAMPLES = 500
SHARES = sum(surface.share for surface in SURFACES.values())


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", SURFACES)
def test_any_input_is_read_or_refused_in_one_line(name):
    surface = SURFACES[name]

    @settings(
        max_examples=max(round(EXAMPLES * surface.share / SHARES), 1),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data):
        outcome(surface, data.draw(surface.values))

    check()
