"""Where things lie in the checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / ".demo" / "cspresnext50_digits.pth"
