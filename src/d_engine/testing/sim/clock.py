"""A machine's clocks, each a function of true (virtual) time.

* *boot time* counts always, suspended or not; it may run fast or slow, and never goes back. It is the one clock that
  the heart reads.
* *monotonic time* is boot time without the spans in which the machine was suspended.
* *wall time* runs at a rate of its own, can be set forth and back, and can stand still. No promise of the engine
  depends on it; it is here so that applications and planted bugs can read it.

Rates are in parts per million beside true time: 100_000 is ten per cent fast.
"""

from d_engine.format.ids import Nanoseconds

_MILLION = 1_000_000
STANDING = -_MILLION
"""The rate of a clock that stands still."""


class _Clock:
    """Linear pieces: from `since` on, `base` and what has passed at the rate."""

    __slots__ = ("base", "rate", "since")

    def __init__(self, base: Nanoseconds) -> None:
        self.base = base
        self.since: Nanoseconds = 0
        self.rate = 0

    def read(self, now: Nanoseconds) -> Nanoseconds:
        passed = now - self.since
        return self.base + passed + passed * self.rate // _MILLION

    def set_rate(self, now: Nanoseconds, rate: int) -> None:
        self.base, self.since = self.read(now), now
        self.rate = rate


class MachineClocks:
    """The clocks of one machine; restarts of the process do not touch them. `now` is always true time."""

    def __init__(self, boot: Nanoseconds = 0, wall: Nanoseconds = 0) -> None:
        self._boot = _Clock(boot)
        self._wall = _Clock(wall)
        self._suspended: Nanoseconds = 0
        self._suspended_at: Nanoseconds | None = None

    def boot(self, now: Nanoseconds) -> Nanoseconds:
        """CLOCK_BOOTTIME."""
        return self._boot.read(now)

    def monotonic(self, now: Nanoseconds) -> Nanoseconds:
        """CLOCK_MONOTONIC."""
        asleep = 0 if self._suspended_at is None else self._boot.read(now) - self._suspended_at
        return self._boot.read(now) - self._suspended - asleep

    def wall(self, now: Nanoseconds) -> Nanoseconds:
        """CLOCK_REALTIME."""
        return self._wall.read(now)

    def true_time(self, boot: Nanoseconds) -> Nanoseconds:
        """The first moment of true time at which boot time has reached `boot`, if its rate stays as it is."""
        clock = self._boot
        passed = -((clock.base - boot) * _MILLION // (_MILLION + clock.rate))
        while clock.read(clock.since + passed) < boot:
            passed += 1
        return clock.since + passed

    def drift(self, now: Nanoseconds, rate: int) -> None:
        """Boot and monotonic time run at this rate from now on. It is above `STANDING`."""
        self._boot.set_rate(now, rate)

    def drift_wall(self, now: Nanoseconds, rate: int) -> None:
        """Wall time runs at this rate from now on."""
        self._wall.set_rate(now, rate)

    def set_wall(self, delta: Nanoseconds) -> None:
        """Wall time jumps."""
        self._wall.base += delta

    @property
    def suspended(self) -> bool:
        """The machine sleeps."""
        return self._suspended_at is not None

    def suspend(self, now: Nanoseconds) -> None:
        """Monotonic time stands still."""
        if self._suspended_at is None:
            self._suspended_at = self._boot.read(now)

    def resume(self, now: Nanoseconds) -> None:
        """Monotonic time goes on."""
        if self._suspended_at is not None:
            self._suspended += self._boot.read(now) - self._suspended_at
            self._suspended_at = None
