"""The command `shadow`. Exit codes: 0 promote (or done), 3 hold, 4 rollback, 2 wrong use; 1 is left to a crash, which is no verdict."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; what the user can mend ends with a message on stderr and exit code 2."""
    from harness.cli.app import app
    from harness.core.errors import ShadowError

    try:
        app()
    except ShadowError as error:
        print(f"shadow: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
