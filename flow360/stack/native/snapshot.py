"""What the native services keep, put aside and brought back: a copy of their data while they are stopped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from flow360.errors import Exit, FlowError

if TYPE_CHECKING:
    from flow360.stack.native.engine import NativeEngine

DEADLINE = 600  # seconds for one copy


def save(engine: NativeEngine, folder: Path) -> None:
    """Copy what the services keep to `folder`: all of it or nothing. They must be stopped."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    _copy(engine.state, part, [str(path.relative_to(engine.state)) for path in engine.kept()])
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def load(engine: NativeEngine, folder: Path) -> None:
    """Put a copy in the place of what the services keep now. They must be stopped."""
    clear(engine)
    _copy(folder, engine.state, [path.name for path in folder.iterdir()])


def clear(engine: NativeEngine) -> None:
    """Remove what the services keep. They must be stopped."""
    for path in engine.kept():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy(source: Path, target: Path, names: list[str]) -> None:
    # cp, because it keeps owners (root's PostgreSQL is another user's) and holes, and shares blocks where it can.
    target.mkdir(parents=True, exist_ok=True)
    if not names:
        return
    command = ["cp", "--archive", "--parents", "--reflink=auto", "--sparse=auto", *names, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=DEADLINE)
    if done.returncode:
        raise FlowError(
            f"copying the services' data failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", Exit.DISK
        )
