"""The loads that are measured, by name: what `sluice load` is told, and how many receivers that makes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Load:
    name: str
    # Transports that receive, each with keys of its own.
    receivers: int
    arguments: tuple
    profile: str = "aes128-gcm"


def fan_out(name, receivers, *arguments, **rest):
    """One publisher of 720p simulcast; everyone gets its highest layer."""
    own = ("--publishers", 1, "--receivers", receivers, "--layout", "all", "--audio", "off", *arguments)
    return Load(name, receivers, own, **rest)


def rooms(count, receivers=10):
    """Rooms of one shape, more and more of them."""
    own = ("--rooms", count, "--publishers", 1, "--receivers", receivers, "--layout", "all", "--audio", "off", "--equal")
    return Load(f"rooms-{count}", count * receivers, own)


LOADS = {
    load.name: load
    for load in (
        *(fan_out(f"fan-out-{n}", n, "--equal") for n in (10, 50, 200, 1000, 2000)),
        # As encoders cut frames: the packets of a frame differ by a few bytes, and frames differ a lot.
        fan_out("fan-out-uneven", 200),
        fan_out("cm", 200, "--equal", profile="aes-cm"),
        Load("gallery", 30, ("--preset", "gallery")),
        Load("audio", 500, ("--preset", "audio")),
        *(rooms(n) for n in (1, 10, 50, 200)),
    )
}

# What `make bench` measures.
MAIN = ("fan-out-200", "gallery", "audio", "cm")


def named(names):
    """Loads by name; a name ending in `-` means all that begin with it."""
    found = []
    for name in names:
        matching = [load for load in LOADS.values() if load.name == name or name.endswith("-") and load.name.startswith(name)]
        if not matching:
            raise SystemExit(f"there is no load {name!r}; there are {', '.join(LOADS)}")
        found += matching
    return found
