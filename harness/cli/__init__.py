"""The command `shadow`. Exit codes: 0 promote (or done), 3 hold, 4 rollback, 2 wrong use; 1 is left to a crash, which is no verdict."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Runs the command line; what the user can mend ends with a message on stderr and exit code 2."""
    from harness.core.errors import ShadowError

    try:
        if sys.argv[1:2] == ["role"]:
            _role(sys.argv[2:])
        else:
            _app()
    except ShadowError as error:
        print(f"shadow: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _role(args: list[str]) -> None:
    """What `shadow up` starts many of: only what a role needs is imported."""
    gc.disable()  # what is imported stays
    from harness.cli.role import app

    gc.enable()
    app(args, prog_name="shadow role")


def _app() -> None:
    gc.disable()  # what is imported stays
    from harness.cli.app import app

    gc.enable()
    app()
