"""`python -m hf_synpre` is `synpre`."""

import sys

from hf_synpre.cli import main

sys.exit(main())
