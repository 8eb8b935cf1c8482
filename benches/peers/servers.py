"""Other media servers as subjects of the rig, each in its best documented configuration."""

import dataclasses
import json
import os
import pathlib
import time

import network
from network import LOAD, LOAD_ADDRESS, OUT, SERVER, SERVER_ADDRESS
from subjects import KEY, RELEASE, SECRET, Driven, Failed, await_port, last_lines

FOLDER = pathlib.Path(__file__).resolve().parent

JANUS_LIBRARIES = f"/usr/lib/{os.uname().machine}-linux-gnu/janus"
# All but streaming.
JANUS_PLUGINS = "audiobridge duktape echotest lua nosip recordplay sip textroom videocall videoroom voicemail".split()

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
    """A running publisher of plain RTP, and those who watch it, if they are anybody."""

    def __init__(self, *processes):
        self.processes = processes

    def finish(self):
        for process in self.processes:
            if process.poll() is not None:
                raise Failed(f"{process.args} ended: {last_lines(OUT / 'load.log')}")
        return None

    def stop(self):
        for process in self.processes:
            network.stop(process)



@dataclasses.dataclass
class Janus:
    """Janus' streaming plugin: one publisher of plain RTP, viewers as real clients with ICE and DTLS.

    One event loop per core instead of one per viewer, as its documentation advises for many handles; everything that is not
    needed stays unloaded.
    """

    packets_per_s: float
    packet_bytes: float
    binary: pathlib.Path = pathlib.Path("/usr/bin/janus")
    viewers_binary: pathlib.Path = RELEASE / "janus"
    name: str = "janus"
    waits: str = ""
    has_receivers: bool = True

    def start(self, net, load):
        folder = OUT / "janus"
        folder.mkdir(parents=True, exist_ok=True)
        plugins = [f"libjanus_{name}.so" for name in JANUS_PLUGINS]
        (folder / "janus.jcfg").write_text(
            "general: {\n"
            f'  configs_folder = "{folder}"\n'
            f'  plugins_folder = "{JANUS_LIBRARIES}/plugins"\n'
            f'  transports_folder = "{JANUS_LIBRARIES}/transports"\n'
            f'  events_folder = "{folder}"\n  loggers_folder = "{folder}"\n'
            f"  debug_level = 2\n  event_loops = {len(net.server_cores)}\n}}\n"
            f'plugins: {{ disable = "{",".join(plugins)}" }}\n'
            'transports: { disable = "libjanus_websockets.so,libjanus_pfunix.so,libjanus_mqtt.so,'
            'libjanus_nanomsg.so,libjanus_rabbitmq.so" }\n'
        )
        (folder / "janus.transport.http.jcfg").write_text(
            f'general: {{\n  json = "compact"\n  base_path = "/janus"\n  http = true\n  port = 8088\n  ip = "{SERVER_ADDRESS}"\n}}\n'
            "admin: { admin_http = false }\n"
        )
        (folder / "janus.plugin.streaming.jcfg").write_text(
            'rig: {\n  type = "rtp"\n  id = 1\n  audio = false\n  video = true\n'
            '  videoport = 5004\n  videopt = 96\n  videocodec = "vp8"\n}\n'
        )
        log = OUT / "server.log"
        self.process = net.start(SERVER, [self.binary, "-F", folder], log=log)
        await_port(self.process, SERVER_ADDRESS, 8088)

    def drive(self, net, load, seconds):
        plain_bytes = round(self.packet_bytes) - TAG_BYTES[load.profile]
        rate = self.packets_per_s / load.receivers
        arguments = ["python3", FOLDER / "publisher.py", SERVER_ADDRESS, 5004, f"{rate:.2f}", plain_bytes]
        log = OUT / "viewers.log"
        url = f"http://{SERVER_ADDRESS}:8088/janus"
        viewers = net.start(LOAD, [self.viewers_binary, url, 1, load.receivers, LOAD_ADDRESS], log=log)
        deadline = time.monotonic() + 120
        while "ready" not in log.read_text():
            if viewers.poll() is not None or time.monotonic() > deadline:
                network.stop(viewers)
                raise Failed(f"the viewers did not connect: {last_lines(log)}")
            time.sleep(0.05)
        return Published(net.start(LOAD, arguments, log=OUT / "load.log"), viewers)

    def stop(self):
        network.stop(self.process)
