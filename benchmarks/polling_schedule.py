"""How often is a run looked at, and how soon is its end seen? ``python benchmarks/polling_schedule.py``.

A simulation with the package's own ``next_delay`` at the default ``poll_interval`` of 30 s, beside fixed
pauses; done in a second. A run is looked at as soon as it is started, and answers take no time.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from statistics import fmean

from airflow_provider_stably.runs.watch import next_delay

POLL_INTERVAL = 30.0
DURATIONS = {"10 s": 10, "30 s": 30, "1 min": 60, "5 min": 300, "15 min": 900, "1 h": 3600, "2 h": 7200}
RUNS_PER_DURATION = 1000
SPREAD = 0.1
"""Durations vary by a tenth, or a fixed pause that divides them would see every end at once."""

WAITING_RUNS = 5000
YOUNGEST, OLDEST = 10.0, 7200.0
MINUTE = 60.0

Schedule = Callable[[float], float]
"""Seconds since the run was started to seconds until the next look."""


def ours(age: float) -> float:
    """Pause as the trigger does."""
    return next_delay(age, POLL_INTERVAL)


def every(seconds: float) -> Schedule:
    """Pause always as long."""
    return lambda _: seconds


def main() -> None:
    """Print the tables."""
    random.seed(1)
    schedules = {"ours": ours, "every 5 s": every(5.0), "every 30 s": every(30.0), "every 60 s": every(60.0)}
    print("Requests per run; seconds until its end is seen, mean and worst\n")
    print_row("run of", *schedules)
    print_row(*["---"] * (1 + len(schedules)))
    for name, duration in DURATIONS.items():
        print_row(name, *(watched(schedule, duration) for schedule in schedules.values()))

    print(f"\nRequests per second after a restart with {WAITING_RUNS} waiting runs\n")
    print_row("schedule", "1st second", "busiest of the other 59", "mean of seconds 31 to 60")
    print_row(*["---"] * 4)
    print_row("ours", *after_restart(ours))
    print_row("ours, if ages began anew", *after_restart(ours, ages_begin_anew=True))
    print_row("every 5 s", *after_restart(every(5.0)))


def draw(lowest: float, highest: float) -> float:
    """Draw a number."""
    return random.uniform(lowest, highest)  # noqa: S311 - a simulation


def watched(schedule: Schedule, duration: float) -> str:
    """Tell what watching many runs of about one duration comes to."""
    requests, lags = [], []
    for _ in range(RUNS_PER_DURATION):
        end = duration * draw(1 - SPREAD, 1 + SPREAD)
        age, looks = 0.0, 1
        while age < end:
            age += schedule(age)
            looks += 1
        requests.append(looks)
        lags.append(age - end)
    return f"{fmean(requests):.0f}; {fmean(lags):.1f}, {max(lags):.1f}"


def after_restart(schedule: Schedule, *, ages_begin_anew: bool = False) -> tuple[str, ...]:
    """Tell the rate of requests in the minute after a triggerer has taken all runs up within a second."""
    per_second: Counter[int] = Counter()
    for _ in range(WAITING_RUNS):
        # As many from 10 to 20 s as from 1 to 2 h.
        age = 0.0 if ages_begin_anew else math.exp(draw(math.log(YOUNGEST), math.log(OLDEST)))
        now = draw(0, 1)
        while now < MINUTE:
            per_second[int(now)] += 1
            delay = schedule(age)
            age, now = age + delay, now + delay
    seconds = [per_second[second] for second in range(int(MINUTE))]
    return f"{seconds[0]}", f"{max(seconds[1:])}", f"{fmean(seconds[30:]):.0f}"


def print_row(*cells: str) -> None:
    """Print a row of a table."""
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
