"""What is measured: servers, and the limit that they are compared with."""

import dataclasses
import json
import pathlib
import re
import subprocess
import tempfile
import time

import network
from network import LOAD, LOAD_ADDRESS, OUT, ROOT, SERVER, SERVER_ADDRESS

RELEASE = ROOT / "target/release"

# Development keys are refused beyond loopback, rightly.
KEY, SECRET = "bench", "a-secret-for-a-network-that-nobody-else-is-in"

# After everyone has joined: key frames and first reports are through.
WARM_UP_S = 2
# Room for starting and ending a window.
MARGIN_S = 2
JOIN_PATIENCE_S = 180


class Failed(Exception):
    """A round that measured nothing, and why."""


@dataclasses.dataclass
class Sluice:
    """`sluice up` under `sluice load`."""

    binary: pathlib.Path = RELEASE / "sluice"
    backend: str = "uring"
    arguments: tuple = ()
    # Lines of the `[media]` table of a configuration file.
    settings: tuple = ()
    load_binary: pathlib.Path = RELEASE / "sluice"
    name: str = "sluice"
    # What the names of the threads that wait for packets contain.
    waits: str = "worker-"
    # Whether somebody takes what the sink lets through; errors would come back from ports where nobody is.
    has_receivers: bool = True

    def start(self, net, load):
        self.data = tempfile.TemporaryDirectory()
        config = pathlib.Path(self.data.name) / "sluice.toml"
        config.write_text("\n".join(("[media]", *self.settings)) + "\n")
        self.process = net.start(
            SERVER,
            [self.binary, "up", "--config", config, "--listen", f"{SERVER_ADDRESS}:7880", "--media", f"{SERVER_ADDRESS}:7882", "--tls", "off"]
            + ["--workers", len(net.server_cores), "--backend", self.backend, "--data", self.data.name, *self.arguments],
            environment={"SLUICE_KEYS": f"{KEY}: {SECRET}", "SLUICE_LOG": "info"},
            log=OUT / "server.log",
        )
        await_port(self.process, SERVER_ADDRESS, 7880)

    def stop(self):
        network.stop(self.process)
        self.data.cleanup()

    def drive(self, net, load, seconds):
        """Starts the load; back when everyone has joined."""
        return Driven(net, load, self.load_binary, f"ws://{SERVER_ADDRESS}:7880", seconds)


class Driven:
    """A running `sluice load`."""

    def __init__(self, net, load, binary, url, seconds):
        self.report, self.log = OUT / "load.json", OUT / "load.log"
        self.report.unlink(missing_ok=True)
        self.process = net.start(
            LOAD,
            [binary, "load", "--url", url, "--api-key", KEY, "--api-secret", SECRET, "--profile", load.profile,]
            # Of what the sink lets through, it checks packets with even numbers.
            + ["--sampled", 2, "--warm-up", WARM_UP_S, "--duration", seconds + MARGIN_S]
            + ["--json", self.report, *load.arguments],
            log=self.log,
        )
        deadline = time.monotonic() + JOIN_PATIENCE_S
        while "measuring for" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the load did not begin: {last_lines(self.log)}")
            time.sleep(0.05)

    def finish(self):
        """Waits for the load's end and returns its report."""
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Failed("the load did not end") from None
        if self.process.returncode != 0:
            raise Failed(f"the load failed: {last_lines(self.log)}")
        report = json.loads(self.report.read_text())
        report.pop("series", None)
        if report["failed"]:
            raise Failed(f"{report['failed']} participants did not join")
        if report["received"]["forged"] or not report["received"]["verified"]:
            raise Failed(f"what arrived was not valid: {report['received']}")
        return report

    def stop(self):
        network.stop(self.process)


@dataclasses.dataclass
class Limit:
    """`limit`, sending what a server was seen to send."""

    traffic: list
    receivers: int
    wakes: float
    profile: str
    backend: str = "uring"
    saturate: bool = False
    binary: pathlib.Path = RELEASE / "limit"
    name: str = "limit"
    waits: str = "limit"
    has_receivers: bool = False

    def start(self, net, load):
        self.process = None

    def drive(self, net, load, seconds):
        arguments = [self.binary, "--to", LOAD_ADDRESS, "--receivers", self.receivers, "--wakes", f"{self.wakes:.1f}"]
        arguments += ["--profile", self.profile, "--backend", self.backend, "--seconds", seconds + MARGIN_S]
        arguments += ["--saturate"] if self.saturate else []
        for bytes, rate, run in self.traffic:
            arguments += ["--traffic", f"{bytes}:{rate:.1f}:{run:.3f}"]
        if self.backend != "xdp":
            self.process = net.start(SERVER, arguments, log=OUT / "limit.log")
            return self
        log = OUT / "limit.log"
        self.process = net.start(SERVER, [*arguments, "--bind", f"{SERVER_ADDRESS}:7882", "--greeted"], log=log)
        receivers = net.start(
            LOAD,
            ["python3", ROOT / "benches/rig/greet.py", LOAD_ADDRESS, 2000, self.receivers, SERVER_ADDRESS, 7882],
            log=OUT / "load.log",
        )
        while "greeted" not in log.read_text():
            if self.process.poll() is not None:
                raise Failed(f"the limit failed: {last_lines(log)}")
            time.sleep(0.02)
        network.stop(receivers)
        return self

    def finish(self):
        self.process.wait(60)
        if self.process.returncode != 0:
            raise Failed(f"the limit failed: {last_lines(OUT / 'limit.log')}")
        return None

    def stop(self):
        if self.process:
            network.stop(self.process)


def await_port(process, address, port, patience_s=30):
    """Waits until somebody listens there, in the server's namespace."""
    probe = f"exec 3<>/dev/tcp/{address}/{port}"
    deadline = time.monotonic() + patience_s
    while subprocess.run(
        ["nsenter", f"--net=/run/netns/{SERVER}", "bash", "-c", probe], capture_output=True
    ).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"the server did not start: {last_lines(OUT / 'server.log')}")
        time.sleep(0.05)


def last_lines(path, count=5):
    text = re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(errors="replace"))
    return " / ".join(text.strip().splitlines()[-count:])
