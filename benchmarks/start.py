"""The start: from the command to the first window, beside a script that does no more than that.

    python -m benchmarks.start --model MODEL [--variant fp16] [--length 2048] [--times 3]

Bare script and sweep take turns, each in a process of its own; the data set is the demo's. Printed
are medians in seconds since the start, by where the sweep runs, and the ratio to the script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

# Says when it is where, since the time that it is given.
BARE = """
import sys, time
began, model, length = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
print("imported", time.time() - began)
device = "cuda" if torch.cuda.is_available() else "cpu"
text = sys.stdin.read()
ids = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt").input_ids[:, :length]
loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float16, device_map=device)
print("loaded", time.time() - began)
with torch.inference_mode():
    loaded(ids.to(device)).logits.float().log_softmax(-1).sum().item()
print("first window", time.time() - began)
"""


def bare_seconds(model: str, length: int, text: str) -> dict[str, float]:
    """When the bare script was where, in seconds since its start."""
    command = [sys.executable, "-c", BARE, str(time.time()), model, str(length)]
    ran = subprocess.run(command, input=text, check=True, capture_output=True, text=True)
    pairs = (line.rsplit(" ", 1) for line in ran.stdout.splitlines())
    return {name: float(seconds) for name, seconds in pairs}


def sweep_seconds(model: str, variant: str, length: int, cluster: str) -> dict[str, float]:
    """When a sweep was where, in seconds since its start, by the events that it keeps."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "orchestrator", "--model", model, "--variants", variant]
        command += ["--dataset", "demo", "--window-length", str(length), "--max-windows", "1"]
        command += ["--max-prompts", "0", "--cluster", cluster, "--results", results]
        began = time.time()
        subprocess.run(command, check=True, capture_output=True)
        (file,) = Path(results).glob("*/events.jsonl")
        events = [json.loads(line) for line in file.read_text().splitlines()]

    def since(moment: str) -> float:
        return datetime.fromisoformat(moment).timestamp() - began

    found = {}
    for event in events:
        match event:
            case {"event": "driver_worked", "phase": "starting Ray"}:
                found |= {
                    "Ray begins": since(event["began"]),
                    "Ray is there": since(event["ended"]),
                }
            case {"event": "actor_prepared"}:
                found["import begins"] = since(event["began"])
                found["imported"] = since(event["ended"])
            case {"event": "actor_loaded"}:
                found["loaded"] = since(event["ended"])
            case {"event": "shard_computed", "shard": str(shard)} if "/windows" in shard:
                found["first window"] = since(event["ended"])
    return found


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--variant", default="fp16")
    parser.add_argument("--length", type=int, default=2048, help="of the window, in tokens")
    parser.add_argument("--times", type=int, default=3)
    said = parser.parse_args()
    text = "A window of a text that is long enough. " * 400
    runs: dict[str, list[dict[str, float]]] = {"bare": [], "local": [], "none": []}
    # The first of all warms the disk.
    bare_seconds(said.model, said.length, text)
    for _ in range(said.times):
        runs["bare"].append(bare_seconds(said.model, said.length, text))
        for cluster in ("local", "none"):
            runs[cluster].append(sweep_seconds(said.model, said.variant, said.length, cluster))
    bare = statistics.median(run["first window"] for run in runs["bare"])
    for name, found in runs.items():
        print(name)
        for phase in found[0]:
            times = [run[phase] for run in found]
            each = ", ".join(f"{seconds:.1f}" for seconds in times)
            print(f"  {statistics.median(times):6.2f} s  {phase}  ({each})")
        first = statistics.median(run["first window"] for run in found)
        print(f"  {first / bare:6.2f} × the bare script")


if __name__ == "__main__":
    main()
