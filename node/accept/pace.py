"""How fast those under one policy may send: who is faster waits a little for each answer.

Nothing is refused and nothing dropped; a sender that waits for its answers is as fast as it may be.
"""

from __future__ import annotations

#: No answer waits for longer: some senders give up after ten seconds.
LONGEST_S = 5.0
#: So much may come at once after a rest.
_REST_S = 1.0


class Pace:
    """A number of instances per minute; not thread-safe."""

    def __init__(self, per_minute: int) -> None:
        self._interval_s = 60.0 / per_minute
        self._burst_s = max(self._interval_s, _REST_S)
        self._paid_until = 0.0  #: monotonic: the time that what has come takes up

    def delay_s(self, now: float) -> float:
        """Count one instance; return how long its answer is to wait.

        Parameters
        ----------
        now
            Monotonic, seconds.
        """
        paid = max(self._paid_until, now) + self._interval_s
        self._paid_until = min(paid, now + self._burst_s + LONGEST_S)  # what was not waited for is forgiven
        return max(0.0, self._paid_until - now - self._burst_s)
