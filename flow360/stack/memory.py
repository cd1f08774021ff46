"""What processes hold in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def pss_mb(pids: Iterable[int]) -> float:
    """Add up the proportional set size of processes and all their children, in MB (shared pages count once in all)."""
    total = 0
    seen: set[int] = set()
    for pid in pids:
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            continue
        for process in family:
            if process.pid not in seen:
                seen.add(process.pid)
                with contextlib.suppress(psutil.Error, OSError):
                    total += process.memory_full_info().pss
    return total / 1e6
