"""What the results of a run of 2,000 test cases cost a worker beyond the HTTP call.

``python benchmarks/results_cost.py``
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

from airflow_provider_stably.api.models import Run
from airflow_provider_stably.api.redaction import Redactor
from airflow_provider_stably.runs.junit import junit_xml
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary

CASES = 2000
ROUNDS = 30
GOAL_MS = 100.0
STATUSES = ("PASSED", "PASSED", "PASSED", "SKIPPED", "FAILED")
REFERENCE = RunReference("run-1", "project-1")

ANSWER = json.dumps(
    {
        "status": "FAILED",
        "startedAt": "2026-11-26T12:00:00.000Z",
        "finishedAt": "2026-11-26T12:30:00.000Z",
        "branchName": "main",
        "results": {
            "testCases": [
                {
                    "title": f"basket {number} > keeps what is put into it, and says what it costs",
                    "status": STATUSES[number % len(STATUSES)],
                    "durationMs": 1000 + number,
                }
                for number in range(CASES)
            ]
        },
    }
)


def milliseconds(work: Callable[[], object]) -> list[float]:
    """Return the CPU time of each of some rounds, after one to get warm."""
    work()
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append((time.process_time() - began) * 1000)
    return took


def main() -> int:
    """Measure and print.

    :returns: Exit code: 0 if the goal is met.
    """
    redactor = Redactor.hiding("made-up-key-of-a-benchmark", ["https://preview.example.com"])

    def read() -> Run:
        return Run.from_json("run-1", json.loads(ANSWER), redactor)

    run = read()
    summary = RunSummary.of(REFERENCE, run)

    def write() -> bytes:
        return junit_xml(summary, run, suite="smoke", verdict=summary.headline, environment="staging")

    parts = {
        "parse the JSON alone": lambda: json.loads(ANSWER),
        "read the answer": read,
        "sum it up, as an XCom": lambda: json.dumps(RunSummary.of(REFERENCE, run).with_message("m")),
        "write JUnit XML": write,
    }
    measured = {name: milliseconds(work) for name, work in parts.items()}
    total = sum(statistics.median(took) for name, took in measured.items() if "alone" not in name)
    alone = statistics.median(measured["parse the JSON alone"])
    xcom = len(json.dumps(summary.with_message(summary.headline)))
    print(f"{CASES} test cases: answer {len(ANSWER) / 1000:.0f} kB, XCom summary {xcom / 1000:.1f} kB,")
    print(f"JUnit XML {len(write()) / 1000:.0f} kB; {ROUNDS} rounds\n")
    print("| part | ms of CPU: median, fastest |\n|---|---|")
    for name, took in measured.items():
        print(f"| {name} | {statistics.median(took):.1f}, {min(took):.1f} |")
    print(
        f"\nread, sum up and write: {total:.1f} ms, {total / alone:.0f} times the JSON; goal {GOAL_MS:g} ms"
    )
    return 0 if total < GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main())
