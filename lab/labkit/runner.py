"""Finds the tests, plays each on a fresh scene, and says what happened.

A test is one file, `lab/BLOCK/the_promise_it_keeps.py`. Its docstring says the promise, `run(scene)` keeps it or raises.
`CASES = [...]` makes it run once per case as `run(scene, case)`; `SECONDS` is its time limit (default 120).
"""

import argparse
import importlib.util
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from labkit.scene import Failure, Scene, Skip
from labkit.server import server_kind

LAB = Path(__file__).resolve().parents[1]
BLOCKS = ["clients", "hostile", "filesystems", "postgres", "groups", "full", "kernel", "powercut", "demo"]


class OutOfTime(Exception):
    pass


def main():
    parser = argparse.ArgumentParser(prog="lab/run", description="Real programs against the Treering server.")
    parser.add_argument("blocks", nargs="*", metavar="BLOCK", help=f"any of: {', '.join(BLOCKS)} (default: all)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only tests whose name contains TEXT")
    parser.add_argument("--list", action="store_true", help="list the tests and stop")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folders of failed tests")
    parser.add_argument("--snapshots", type=int, metavar="N", help="so many instead of CI's number, in tests that repeat snapshots")
    options = parser.parse_args()
    if options.snapshots:
        os.environ["TREERING_LAB_SNAPSHOTS"] = str(options.snapshots)
    unknown = [b for b in options.blocks if b not in BLOCKS]
    if unknown:
        parser.error(f"no block called {', '.join(unknown)}; there are: {', '.join(BLOCKS)}")
    tests = [t for b in options.blocks or BLOCKS for t in tests_of(b) if options.only in t[0]]
    if options.list:
        print("\n".join(name for name, *_ in tests))
        return 0
    print(f"server under test: {server_kind()}", flush=True)
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    try:
        for name, module, case in tests:
            counts[play(name, module, case, options.keep)] += 1
    except KeyboardInterrupt:
        print("interrupted: everything was taken down")
        counts["FAIL"] += 1
    print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped")
    return 1 if counts["FAIL"] else 0


def tests_of(block):
    for file in sorted((LAB / block).glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"{block}.{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, "run"):
            continue
        for case in getattr(module, "CASES", [None]):
            yield f"{block}/{file.stem}" + (f"[{case}]" if case is not None else ""), module, case


def play(name, module, case, keep):
    scene = Scene(name)
    started = time.monotonic()
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, interrupted)
    signal.alarm(getattr(module, "SECONDS", 120))
    verdict, reason = "PASS", ""
    try:
        module.run(scene) if case is None else module.run(scene, case)
    except Skip as skip:
        verdict, reason = "SKIP", str(skip)
    except Failure as failure:
        verdict, reason = "FAIL", f"{failure}\n{place_of(failure)}"
    except OutOfTime:
        verdict, reason = "FAIL", f"not done after {getattr(module, 'SECONDS', 120)} s"
    except KeyboardInterrupt:
        say("FAIL", name, started, "interrupted")
        raise
    except Exception:
        verdict, reason = "FAIL", traceback.format_exc()
    finally:
        signal.alarm(0)
        logs = server_logs(scene) if verdict == "FAIL" else ""
        kept = keep and verdict == "FAIL"
        problems = scene.close(keep=kept)
        scene.notes += [f"kept {scene.dir}"] if kept else []
    if problems:
        verdict, reason = "FAIL", reason + "\nteardown: " + "\nteardown: ".join(problems)
    say(verdict, name, started, reason + logs, scene.notes)
    return verdict


def place_of(failure):
    frames = [f for f in traceback.extract_tb(failure.__traceback__) if "labkit" not in f.filename]
    return f"at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def server_logs(scene):
    logs = [p for p in sorted(scene.dir.glob("*.log")) if any(s in p.name for s in ("treering", "nbdkit", "ip.log"))]
    return "".join(f"\n--- {p.name}, last lines:\n{p.read_text(errors='replace')[-1500:]}" for p in logs[-2:])


def say(verdict, name, started, reason="", notes=()):
    print(f"{verdict}  {time.monotonic() - started:6.1f} s  {name}" + "".join(f"  · {n}" for n in notes), flush=True)
    for line in reason.strip().splitlines():
        print(f"        {line}", flush=True)


def out_of_time(_signal, _frame):
    raise OutOfTime


def interrupted(_signal, _frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
