"""Other media servers as subjects of the rig, each in its best documented configuration."""

import dataclasses
import json
import pathlib
import time

import network
from network import LOAD, LOAD_ADDRESS, OUT, SERVER, SERVER_ADDRESS
from subjects import KEY, RELEASE, SECRET, Driven, Failed, await_port, last_lines

FOLDER = pathlib.Path(__file__).resolve().parent

# What AEAD_AES_128_GCM and AEAD_AES_256_GCM, and AES128_CM_SHA1_80, add to a packet.
TAG_BYTES = {"aes128-gcm": 16, "aes256-gcm": 16, "aes-cm": 10}


@dataclasses.dataclass
class LiveKit:
    """A LiveKit server, with the very load that Sluice gets.

    One UDP port for all, and sends in batches (`batch_io`), as its documentation of large deployments has it. It takes as
    many threads as it may use cores.
    """

    binary: pathlib.Path
    load_binary: pathlib.Path = RELEASE / "sluice"
    name: str = "livekit"
    waits: str = ""
    has_receivers: bool = True

    def start(self, net, load):
        settings = {
            "port": 7880,
            "bind_addresses": [SERVER_ADDRESS],
            "keys": {KEY: SECRET},
            "log_level": "warn",
            "rtc": {
                "udp_port": 7882,
                "tcp_port": 0,
                "node_ip": SERVER_ADDRESS,
                "use_external_ip": False,
                "batch_io": {"batch_size": 128, "max_flush_interval": "2ms"},
            },
        }
        path = OUT / "livekit.json"
        # JSON is YAML.
        path.write_text(json.dumps(settings))
        self.process = net.start(SERVER, [self.binary, "--config", path], log=OUT / "server.log")
        await_port(self.process, SERVER_ADDRESS, 7880)

    def drive(self, net, load, seconds):
        return Driven(net, load, self.load_binary, f"ws://{SERVER_ADDRESS}:7880", seconds)

    def stop(self):
        network.stop(self.process)


@dataclasses.dataclass
class Mediasoup:
    """A mediasoup worker: one publisher on a plain transport, receivers on plain transports with SRTP."""

    # Of all receivers together, and what they get, tag included.
    packets_per_s: float
    packet_bytes: float
    binary: pathlib.Path = FOLDER / "mediasoup/target/release/mediasoup-peer"
    name: str = "mediasoup"
    waits: str = ""
    has_receivers: bool = False

    def start(self, net, load):
        arguments = [self.binary, SERVER_ADDRESS, 5004, LOAD_ADDRESS, 2000, load.receivers, load.profile]
        log = OUT / "server.log"
        self.process = net.start(SERVER, arguments, log=log)
        deadline = time.monotonic() + 60
        while "ready" not in log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"mediasoup did not start: {last_lines(log)}")
            time.sleep(0.05)

    def drive(self, net, load, seconds):
        plain_bytes = round(self.packet_bytes) - TAG_BYTES[load.profile]
        rate = self.packets_per_s / load.receivers
        arguments = ["python3", FOLDER / "publisher.py", SERVER_ADDRESS, 5004, f"{rate:.2f}", plain_bytes]
        return Published(net.start(LOAD, arguments, log=OUT / "load.log"))

    def stop(self):
        network.stop(self.process)


class Published:
    """A running publisher of plain RTP."""

    def __init__(self, process):
        self.process = process

    def finish(self):
        if self.process.poll() is not None:
            raise Failed(f"the publisher ended: {last_lines(OUT / 'load.log')}")
        return None

    def stop(self):
        network.stop(self.process)

