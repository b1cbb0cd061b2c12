"""Fails where pyright knows the types of too few of the names that nbllm exports.

python tools/check_type_completeness.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Percent. Classes derived from those of libraries without types are most of the rest.
LEAST = 98.0
COMMAND = (
    *(sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable),
    *("--verifytypes", "nbllm", "--ignoreexternal", "--outputjson"),
)


def main() -> int:
    """Print the share, and the names without a type where it is too low."""
    # In a folder of its own it reads no configuration, as in the folder of a user.
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            COMMAND,
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    found = json.loads(done.stdout)["typeCompleteness"]
    share = 100 * found["completenessScore"]
    print(f"pyright knows the types of {share:.1f} % of the names that nbllm exports.")
    if share >= LEAST:
        return 0
    print(f"At least {LEAST:g} % should be known. Without a type are:")
    for symbol in found["symbols"]:
        reasons = [one["message"].splitlines()[0] for one in symbol["diagnostics"]]
        if symbol["isExported"] and not symbol["isTypeKnown"] and reasons:
            print(f"  {symbol['name']}: {reasons[0]}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
