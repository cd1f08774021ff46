"""What each client of the REST service was answered, and how often it came back too soon: its manners."""

from __future__ import annotations

from collections import Counter, OrderedDict

from flow360.primeur.api.chaos import CLIENTS


class Usage:
    """Answers by client and status, since the service started; of too many clients the oldest are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Counter[int]] = OrderedDict()
        self._early: Counter[str] = Counter()

    def count(self, client: str, status: int, early: bool) -> None:
        """Note one answer, and whether its request came sooner than Retry-After had said."""
        self._answers.setdefault(client, Counter())[status] += 1
        self._answers.move_to_end(client)
        self._early[client] += early
        if len(self._answers) > CLIENTS:
            del self._early[self._answers.popitem(last=False)[0]]

    def of(self, client: str) -> dict[int, int]:
        """Return status -> number of answers, in order of the status; {} for a client who was never here."""
        return dict(sorted(self._answers.get(client, {}).items()))

    def early(self, client: str) -> int:
        """Count the client's requests that came sooner than a 429 had asked for."""
        return self._early[client]
