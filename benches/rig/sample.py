"""One round: start a subject, drive it, look at it for a while."""

import time

import cpu
from network import PASS_EVERY

# Between the load's beginning and the window: the sink has changed over, queues have emptied.
SETTLE_S = 1

# Packets of a size that make up less of the load than this are not imitated by the limit: probes, repeats.
CLASS_SHARE_MIN = 0.005


def take(net, subject, load, seconds):
    """Measures `subject` under `load` for `seconds`. Raises `subjects.Failed`."""
    driven = None
    # Joining needs media to arrive.
    net.let_through(1)
    try:
        subject.start(net, load)
        driven = subject.drive(net, load, seconds + SETTLE_S)
        net.let_through(PASS_EVERY if subject.has_receivers else 0)
        time.sleep(SETTLE_S)
        before, counts_before = cpu.Snapshot(subject.process.pid, net.server_cores), net.counts()
        time.sleep(seconds)
        after, counts_after = cpu.Snapshot(subject.process.pid, net.server_cores), net.counts()
        report = driven.finish()
    finally:
        if driven:
            driven.stop()
        subject.stop()
    return sample(subject, cpu.Use(before, after), counts_before, counts_after, report)


def sample(subject, use, before, after, report):
    """The figures of a window, in a form that JSON can hold."""
    seconds = use.wall_ns / 1e9
    classes = {}
    for size in before:
        delta = {name: after[size][name] - before[size][name] for name in after[size]}
        if delta["packets"]:
            classes[size] = {
                **delta,
                "packet_bytes": delta["bytes"] / delta["packets"],
                "packets_per_s": delta["packets"] / seconds,
                "run": delta["packets"] / delta["skbs"],
            }
    packets = sum(values["packets"] for values in classes.values())
    skbs = sum(values["skbs"] for values in classes.values())
    per_packet = lambda ns: None if ns is None or not packets else ns / packets
    wakes = sum(count for name, count in use.sleeps.items() if subject.waits in name)
    return {
        "subject": subject.name,
        "seconds": seconds,
        "packets": packets,
        "packets_per_s": packets / seconds,
        "run": packets / skbs if skbs else None,
        "bits_per_s": 8 * sum(values["bytes"] for values in classes.values()) / seconds,
        "ns_per_packet": per_packet(use.total_ns),
        "busy": use.total_ns / use.wall_ns,
        "wakes_per_s": wakes / seconds,
        "parts_ns_per_packet": {
            **{name: per_packet(ns) for name, ns in sorted(use.by_thread.items(), key=lambda item: -item[1]) if ns},
            "ksoftirqd": per_packet(use.ksoftirqd_ns),
            "softirq while idle": per_packet(use.interrupts_ns),
        },
        "classes": classes,
        "clients": report,
    }


def traffic(sample):
    """What the limit is to send so that it sends the same: bytes, packets/s, run."""
    least = CLASS_SHARE_MIN * sample["packets_per_s"]
    return [
        (round(values["packet_bytes"]), values["packets_per_s"], values["run"])
        for values in sample["classes"].values()
        if values["packets_per_s"] >= least
    ]
