"""The clock that leases and elections run on: nanoseconds since boot, suspended time included.

A clock that stands still while the machine is suspended would let a leader wake up and believe that its lease has not
run out. Where there is no such clock (macOS), the monotonic one must do; lease reads are off by default.
"""

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def boot_time_ns(_clock: int = time.CLOCK_BOOTTIME) -> int:
        """Never goes back; counts suspended time."""
        return time.clock_gettime_ns(_clock)

else:

    def boot_time_ns(_clock: int = 0) -> int:
        """Never goes back. On this platform it may stand still during suspension."""
        return time.monotonic_ns()
