"""How long a command says nothing: from its start to its first line, and to each later phase.

    python -m benchmarks.first_second --times 5

Runs the embedded sweep without prompts, which takes a quarter of a minute each time.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time


def line_seconds(results: str) -> dict[str, float]:
    """When each line of a sweep came, in seconds since its start."""
    command = [sys.executable, "-m", "orchestrator", "--results", results, "--max-prompts", "0"]
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        found = {line.rstrip(): time.monotonic() - began for line in process.stderr}
    if process.returncode:
        raise SystemExit(f"the sweep ended with {process.returncode}")
    return found


def main() -> None:
    """Prints the median of several runs, a phase a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    runs = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as results:
            runs.append(line_seconds(results))
    phases = [line for line in runs[0] if line.endswith("…") and all(line in run for run in runs)]
    for phase in phases:
        seconds = statistics.median(run[phase] for run in runs)
        print(f"{seconds:6.2f} s  {phase}")


if __name__ == "__main__":
    main()
