"""The clock that leases and elections run on: nanoseconds since boot, suspended time included.

A clock that stands still while the machine is suspended would let a leader wake up and believe that its lease has not
run out. Where there is no such clock (macOS), the monotonic one must do; lease reads are off by default.
"""

import time
from collections.abc import Callable
from functools import partial

boot_time_ns: Callable[[], int] = (
    partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic_ns
)
"""Never goes back; counts suspended time, where the platform can. No function of ours in between: every lease read
calls it."""
