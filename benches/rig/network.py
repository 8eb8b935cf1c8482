"""Two network namespaces joined by a veth pair, with a sink that counts what the server sends and drops it.

    sb-server (core 0)                 sb-load (core 1)
      sb-server0  10.99.0.1  <------>  sb-load0, the sink at its ingress
                                          | what is let through
                                       sb-inner0  10.99.0.2   (its peer sb-inner1 only makes it a device)

The sink runs where the server's send runs, on the server's core, as a device driver's transmit would. What it lets through
is handed to `sb-inner0`, whose receive packet steering moves it to the load's core. In the other direction, steering on
`sb-server0` makes the server's core do the server's receive work.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/bench"

SERVER, LOAD = "sb-server", "sb-load"
SERVER_ADDRESS, LOAD_ADDRESS = "10.99.0.1", "10.99.0.2"

# One measurement at a time on a machine.
LOCK = "/run/lock/sluice-bench.lock"

# Of the RTP skbs, the load gets one in so many while it is measured: enough to check tags, few enough to cost nothing.
PASS_EVERY = 64


class Network:
    """Made by `with Network() as network`, and gone afterwards, whatever happens."""

    def __init__(self, server_cores=(0,), load_cores=(1,)):
        self.server_cores, self.load_cores = tuple(server_cores), tuple(load_cores)
        self.maps = {}
        self.processes = []

    def __enter__(self):
        # A run that is told to end tears down as one that ends by itself.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        self.lock = open(LOCK, "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another measurement is running; waiting for it to end", file=sys.stderr, flush=True)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        # What this process and its helpers do is the load's, not the server's.
        self.affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.load_cores)
        try:
            self.tear_down()
            self.set_up()
        except BaseException:
            self.tear_down()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            stop(process)
        self.tear_down()
        os.sched_setaffinity(0, self.affinity)
        self.lock.close()

    def set_up(self):
        for name in (SERVER, LOAD):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", SERVER, "link", "add", "sb-server0", "type", "veth", "peer", "name", "sb-load0", "netns", LOAD)
        # Both have one link address, as a server may send to where frames came from (AF_XDP does).
        address = mac(LOAD, "sb-load0")
        inner = ("sb-inner0", "address", address, "type", "veth", "peer", "name", "sb-inner1")
        run("ip", "-n", LOAD, "link", "add", *inner)
        for name, device in ((SERVER, "sb-server0"), (LOAD, "sb-load0"), (LOAD, "sb-inner0"), (LOAD, "sb-inner1")):
            # Nothing may appear by itself: no IPv6 chatter, and enough queue for a burst.
            write(name, f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6", 1)
            run("ip", "-n", name, "link", "set", device, "txqueuelen", "10000", "up")
        run("ip", "-n", SERVER, "address", "add", f"{SERVER_ADDRESS}/24", "dev", "sb-server0")
        run("ip", "-n", LOAD, "address", "add", f"{LOAD_ADDRESS}/32", "dev", "sb-inner0")
        run("ip", "-n", LOAD, "route", "add", f"{SERVER_ADDRESS}/32", "dev", "sb-load0", "src", LOAD_ADDRESS)
        # What comes in through one device leaves through another: nobody can be asked for link addresses.
        run("ip", "-n", SERVER, "neighbour", "add", LOAD_ADDRESS, "lladdr", address, "dev", "sb-server0")
        run("ip", "-n", LOAD, "neighbour", "add", SERVER_ADDRESS, "lladdr", mac(SERVER, "sb-server0"), "dev", "sb-load0")
        for device in ("all", "sb-inner0"):
            write(LOAD, f"/proc/sys/net/ipv4/conf/{device}/rp_filter", 0)
        write(SERVER, "/sys/class/net/sb-server0/queues/rx-0/rps_cpus", mask(self.server_cores))
        write(LOAD, "/sys/class/net/sb-inner0/queues/rx-0/rps_cpus", mask(self.load_cores))
        self.attach()

    def attach(self):
        """Compiles the sink and puts it at the load's ingress."""
        OUT.mkdir(parents=True, exist_ok=True)
        source, program = ROOT / "benches/rig/sink.bpf.c", OUT / "sink.o"
        include = f"/usr/include/{os.uname().machine}-linux-gnu"
        run("clang", "-O2", "-g", "-target", "bpf", f"-I{include}", "-Wall", "-Werror", "-c", source, "-o", program)
        inside = ("nsenter", f"--net=/run/netns/{LOAD}")
        run(*inside, "tc", "qdisc", "add", "dev", "sb-load0", "clsact")
        run(*inside, "tc", "filter", "add", "dev", "sb-load0", "ingress", "bpf", "da", "obj", program, "sec", "tc")
        filters = json.loads(run(*inside, "tc", "-j", "filter", "show", "dev", "sb-load0", "ingress"))
        programs = [f["options"]["prog"]["id"] for f in filters if "prog" in f.get("options", {})]
        for id in json.loads(run("bpftool", "-j", "prog", "show", "id", programs[0]))["map_ids"]:
            self.maps[json.loads(run("bpftool", "-j", "map", "show", "id", id))["name"]] = id
        index = run("ip", "netns", "exec", LOAD, "cat", "/sys/class/net/sb-inner0/ifindex")
        self.inner = int(index)
        self.let_through(1)

    def tear_down(self):
        existing = {n["name"] for n in json.loads(run("ip", "-j", "netns", "list") or "[]")}
        for name in existing & {SERVER, LOAD}:
            run("ip", "netns", "delete", name)

    def let_through(self, every):
        """Lets one RTP skb in `every` through to the load: 1 all, 0 none."""
        value = every.to_bytes(4, sys.byteorder) + self.inner.to_bytes(4, sys.byteorder)
        words = " ".join(f"0x{byte:02x}" for byte in value).split()
        run("bpftool", "map", "update", "id", self.maps["config"], "key", "0", "0", "0", "0", "value", *words)

    def counts(self):
        """What the sink saw since the start: fields of small (below 500 bytes) and large packets."""
        entries = json.loads(run("bpftool", "-j", "map", "dump", "id", self.maps["counts"]))
        totals = []
        for entry in entries:
            per_core = [values["value"] for values in entry["formatted"]["values"]]
            totals.append({name: sum(values[name] for values in per_core) for name in per_core[0]})
        return dict(zip(("small", "large"), totals))

    def start(self, namespace, argv, cores=None, environment=None, log=None):
        """Starts a program in a namespace, pinned; stopped at the latest when the network goes."""
        cores = cores or (self.server_cores if namespace == SERVER else self.load_cores)
        listed = ",".join(map(str, cores))
        # Before whatever else this machine does: a server that waits for its core works in larger batches, and looks cheaper.
        urgent = ["nice", "-n", "-15", "taskset", "-c", listed]
        argv = ["nsenter", f"--net=/run/netns/{namespace}", *urgent, *map(str, argv)]
        output = open(log, "w") if log else subprocess.DEVNULL
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.processes.append(process)
        # Where the kernel shares cores between sessions, niceness counts within one only, and sessions have their own.
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path(f"/proc/{process.pid}/autogroup").write_text("-15")
        return process


def stop(process, patience_s=10):
    """Asks a program to end, and ends it if it does not."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    if process.poll() is None:
        process.kill()
        process.wait()


def run(*argv):
    result = subprocess.run([*map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def write(namespace, path, value):
    run("ip", "netns", "exec", namespace, "sh", "-c", f"echo {value} > {path}")


def mac(namespace, device):
    return json.loads(run("ip", "-j", "-n", namespace, "link", "show", device))[0]["address"]


def mask(cores):
    return f"{sum(1 << core for core in cores):x}"
