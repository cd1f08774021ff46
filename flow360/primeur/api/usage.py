"""What each client of the REST service was answered: the service's own account of a client's manners."""

from __future__ import annotations

from collections import Counter, OrderedDict

from flow360.primeur.api.chaos import CLIENTS


class Usage:
    """Answers by client and status, since the service started; of too many clients the oldest are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Counter[int]] = OrderedDict()

    def count(self, client: str, status: int) -> None:
        """Note one answer."""
        self._answers.setdefault(client, Counter())[status] += 1
        self._answers.move_to_end(client)
        if len(self._answers) > CLIENTS:
            self._answers.popitem(last=False)

    def of(self, client: str) -> dict[int, int]:
        """Status -> number of answers, in order of the status; {} for a client who was never here."""
        return dict(sorted(self._answers.get(client, {}).items()))
