"""Where tests find the repository and their data, from whatever folder they lie in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
