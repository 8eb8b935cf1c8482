"""Starts the real server for LiveKit's own Python SDKs."""

import asyncio
import os
import pathlib
import queue
import socket
import subprocess
import threading
import time

import pytest
from livekit import api, rtc

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SLUICE", str(ROOT / "target/debug/sluice"))
PATIENCE_S = 45


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`sluice up` in development mode."""

    def __init__(self, folder):
        self.port = free_port(socket.SOCK_STREAM)
        media = free_port(socket.SOCK_DGRAM)
        self.lines = queue.Queue()
        self.log = []
        self.process = subprocess.Popen(
            [BINARY, "up", "--listen", f"127.0.0.1:{self.port}", "--media", f"127.0.0.1:{media}", "--data", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + PATIENCE_S
        while "Page:" not in self.lines.get(timeout=deadline - time.monotonic()):
            pass

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line)
            self.lines.put(line)
        self.lines.put("Page: never, the server has ended")

    @property
    def ws(self):
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.port}"

    def token(self, room, identity, **grants):
        video = api.VideoGrants(room_join=True, room=room, **grants)
        return (
            api.AccessToken("devkey", "secret").with_identity(identity).with_name(identity.title()).with_grants(video).to_jwt()
        )

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("sluice"))
    yield running
    alive = running.process.poll() is None
    running.stop()
    panics = [line for line in running.log if "panicked" in line]
    assert alive and not panics, "".join(running.log[-40:])


@pytest.fixture
async def lk(server):
    client = api.LiveKitAPI(server.http, "devkey", "secret")
    yield client
    await client.aclose()


class Events:
    """Collects a room's events so that tests can await them instead of sleeping."""

    def __init__(self, room, *names):
        self.queues = {name: asyncio.Queue() for name in names}
        for name in names:
            room.on(name, lambda *args, name=name: self.queues[name].put_nowait(args))

    async def next(self, name, accept=lambda *args: True):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                args = await self.queues[name].get()
                if accept(*args):
                    return args


EVENTS = (
    "participant_connected",
    "participant_disconnected",
    "track_published",
    "track_unpublished",
    "track_subscribed",
    "track_unsubscribed",
    "track_muted",
    "track_unmuted",
    "data_received",
    "data_track_published",
    "data_track_unpublished",
    "participant_metadata_changed",
    "participant_name_changed",
    "participant_attributes_changed",
    "participant_permissions_changed",
    "room_metadata_changed",
    "active_speakers_changed",
    "local_track_subscribed",
    "connection_quality_changed",
    "reconnecting",
    "reconnected",
    "disconnected",
)


@pytest.fixture
async def people(server):
    """Joins people; they leave when the test ends."""
    rooms = []

    async def join(room, identity, url=None, options=None, **grants):
        client = rtc.Room()
        client.events = Events(client, *EVENTS)
        async with asyncio.timeout(PATIENCE_S):
            await client.connect(url or server.ws, server.token(room, identity, **grants), options or rtc.RoomOptions())
        rooms.append(client)
        return client

    yield join
    for client in rooms:
        await client.disconnect()
