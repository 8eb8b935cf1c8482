"""What was measured, as JSON and as rows for benches/RESULTS.md."""

import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

import plot
from network import ROOT


class Record:
    """All rounds of one command."""

    def __init__(self, kind, argv):
        self.rounds = []
        self.about = {
            "kind": kind,
            "command": " ".join([os.path.relpath(argv[0], ROOT), *argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "kernel": os.uname().release,
            "commit": commit(),
        }

    def add(self, load, number, samples):
        self.rounds += [{"load": load.name, "round": number, **sample} for sample in samples]

    def write(self, path):
        """All figures to `path`, and a picture beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**self.about, "rounds": self.rounds}, indent=1))
        path.with_suffix(".svg").write_text(plot.svg(self))

    def subjects(self, load):
        return list(dict.fromkeys(r["subject"] for r in self.rounds if r["load"] == load))

    def of(self, load, subject):
        return [r for r in self.rounds if (r["load"], r["subject"]) == (load, subject)]

    def rows(self, reference, called):
        """A table. The last column compares with `reference(subject)`, `called` so, within each round: rounds of a shared
        machine differ."""
        lines = [
            "`{command}`, {date}, {machine}, Linux {kernel}, commit {commit}".format(**self.about),
            "",
            f"| load | subject | rounds | packets/s | packets per send | core | ns per packet: median (range) | {called} / this |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for load in dict.fromkeys(r["load"] for r in self.rounds):
            for subject in self.subjects(load):
                rounds = self.of(load, subject)
                middle = lambda name: statistics.median(r[name] for r in rounds)
                lines.append(
                    f"| {load} | {subject} | {len(rounds)} | {middle('packets_per_s'):,.0f} | {middle('run'):.1f} "
                    f"| {100 * middle('busy'):.0f} % | {spread([r['ns_per_packet'] for r in rounds], '{:,.0f}')} "
                    f"| {self.ratio(load, subject, reference(subject))} |"
                )
        return "\n".join(lines)

    def ratio(self, load, subject, reference):
        """Cost of the reference as a share of this one's, round by round."""
        if subject == reference:
            return ""
        references = {r["round"]: r["ns_per_packet"] for r in self.of(load, reference)}
        ratios = [references[r["round"]] / r["ns_per_packet"] for r in self.of(load, subject) if r["round"] in references]
        return spread([100 * ratio for ratio in ratios], "{:.0f} %") if ratios else ""


def spread(values, form):
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


def progress(number, load, samples):
    """A line for whoever waits, on standard error: the table goes to standard output."""
    for sample in samples:
        parts = ", ".join(
            f"{name} {ns:.0f}" for name, ns in sample["parts_ns_per_packet"].items() if ns is not None and ns >= 1
        )
        unknown = ", softirqs while idle unknown" if sample["parts_ns_per_packet"]["softirq while idle"] is None else ""
        print(
            f"round {number + 1}, {load.name}, {sample['subject']}: {sample['ns_per_packet']:.0f} ns per packet, "
            f"{sample['packets_per_s']:.0f} packets/s, {sample['run']:.2f} per send, {sample['wakes_per_s']:.0f} wake-ups/s "
            f"({parts}{unknown})",
            file=sys.stderr,
            flush=True,
        )


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores {names[0]}" if names else os.uname().machine


def commit(folder=ROOT):
    """Short name of what is checked out, with a mark where it was changed since."""
    git = lambda *argv: subprocess.run(["git", "-C", folder, *argv], capture_output=True, text=True).stdout.strip()
    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed
