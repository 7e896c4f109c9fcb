"""Where things lie in the checkout, and how long the tests that could go on for ever do."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / ".demo" / "cspresnext50_digits.pth"
KILLS = int(os.environ.get("MODELPORT_TEST_KILLS", "8"))  # of a run, at random moments; `make soak` sets more
