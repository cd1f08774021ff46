"""What goes wrong becomes one line on standard error and an exit code (flow360.errors.Exit)."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from flow360.errors import Exit, FlowError


class OneLineErrors(TyperGroup):
    """Shows a FlowError as its line and leaves with its code; Ctrl-C leaves with 130 and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FlowError as error:
            from rich.text import Text

            from flow360.stack.console import errors

            errors.print(Text("flow360: ", "red").append(error.message, "default"), soft_wrap=True)
            raise typer.Exit(int(error.code)) from None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST) and error.filename:
                print(f"flow360: {error.filename}: {error.strerror}: name another place", file=sys.stderr)
                raise typer.Exit(int(Exit.USAGE)) from None
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fix = f"{'free some' if full else 'look who owns it'}, or set FLOW360_STATE and FLOW360_CACHE"
            print(f"flow360: {error.filename or 'the disk'}: {error.strerror}: {fix}", file=sys.stderr)
            raise typer.Exit(int(Exit.DISK if full else Exit.PERMISSION)) from None
        except subprocess.TimeoutExpired as error:
            name = Path(str(error.cmd[0] if isinstance(error.cmd, list | tuple) else error.cmd)).name
            print(f"flow360: {name} did not end within {error.timeout:.0f} s", file=sys.stderr)
            raise typer.Exit(int(Exit.FAILED)) from None
