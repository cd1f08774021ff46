"""How the REST service misbehaves: a rate limit for each client, and faults that a seed decides.

Whether an answer is a 500, comes late or trickles follows from (seed, request, attempt) alone: the same walk over the
same pages meets the same faults, and the third attempt of a request is always answered well, so that a client who tries
again with patience gets through, and one who does not, does not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

ROUNDING = 0.05
"""Seconds by which two clocks of one machine may differ."""
FORGET_AFTER = 15.0
"""Seconds after which a request that was not tried again counts as new."""
CLIENTS = 10_000
"""Clients and requests that are remembered; the oldest are forgotten first."""


class ChaosSettings(BaseModel):
    """What can be set over POST /chaos."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    seed: int = Field(360, description="decides which requests are hit")
    errors: float = Field(0.12, ge=0, le=1, description="share of answers that are a 500")
    slow: float = Field(0.04, ge=0, le=1, description="share of answers that begin late")
    trickle: float = Field(0.03, ge=0, le=1, description="share of answers whose body comes in drips")
    delay: float = Field(2.0, ge=0, le=60, description="seconds that a late or trickling answer takes")
    rate: float = Field(8.0, ge=0.001, le=100_000, description="requests a second that a client may send for long")
    burst: int = Field(10, ge=1, le=100_000, description="requests that a client may send at once")
    patience: int = Field(1, ge=1, le=3600, description="seconds that a 429 asks to wait at least (Retry-After)")


class Fault(Enum):
    """What happens to a request."""

    NONE = "none"
    ERROR = "error"
    LOST_ANSWER = "lost answer"  # a POST is stored, but its answer is a 500
    SLOW = "slow"
    TRICKLE = "trickle"


@dataclass
class _Bucket:
    tokens: float
    at: float
    until: float = 0.0  # the moment that the last 429 named


@dataclass
class _Tries:
    number: int
    at: float


@dataclass(frozen=True)
class Allowance:
    """The state of a client's bucket: `wait` is 0 when the request may pass, else whole seconds until the next one may.

    `early` says that the request came sooner than the last 429 had asked for.
    """

    limit: int
    remaining: int
    wait: int
    early: bool

    @property
    def headers(self) -> dict[str, str]:
        found = {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": str(self.remaining)}
        if self.wait:
            found["Retry-After"] = str(self.wait)
        return found


class Chaos:
    """The misbehaviour of one running service."""

    def __init__(self, start: ChaosSettings | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = start or ChaosSettings()
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._tries: OrderedDict[tuple[str, str], _Tries] = OrderedDict()

    def set(self, new: ChaosSettings) -> None:
        """Take new settings; all buckets are full again, and no attempt is remembered."""
        self.settings = new
        self._buckets.clear()
        self._tries.clear()

    def admit(self, client: str) -> Allowance:
        """Take one token from the client's bucket."""
        s, now = self.settings, self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(s.burst, now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(s.burst, bucket.tokens + (now - bucket.at) * s.rate)
        bucket.at, early = now, now < bucket.until - ROUNDING
        if bucket.tokens < 1:
            wait = max(s.patience, math.ceil((1 - bucket.tokens) / s.rate))
            bucket.until = now + wait
            return Allowance(s.burst, 0, wait, early)
        bucket.tokens -= 1
        return Allowance(s.burst, int(bucket.tokens), 0, early)

    def next_fault(self, client: str, request: str) -> Fault:
        """Count an attempt of this request and say what happens to it; a good answer ends the row of attempts.

        Args:
            client: who asks.
            request: method, path and query, and for a POST what distinguishes it from others.
        """
        now, key = self._clock(), (client, request)
        tries = self._tries.pop(key, None)
        number = tries.number + 1 if tries and now - tries.at <= FORGET_AFTER else 1
        fault = self.fault(request, number)
        if fault is not Fault.NONE:
            self._tries[key] = _Tries(number, now)
            if len(self._tries) > CLIENTS:
                self._tries.popitem(last=False)
        return fault

    def fault(self, request: str, attempt: int) -> Fault:
        """Decide by the seed what happens to an attempt, counted from 1."""
        if attempt > 2:
            return Fault.NONE
        s = self.settings
        digest = hashlib.sha256(f"{s.seed}|{request}|{attempt}".encode()).digest()
        roll = int.from_bytes(digest[:8], "big") / 2**64
        if roll < s.errors:
            # the answer of a POST is lost as often as the POST itself
            lost = request.startswith("POST") and digest[8] % 2 == 0
            return Fault.LOST_ANSWER if lost else Fault.ERROR
        if roll < s.errors + s.slow:
            return Fault.SLOW
        return Fault.TRICKLE if roll < s.errors + s.slow + s.trickle else Fault.NONE
