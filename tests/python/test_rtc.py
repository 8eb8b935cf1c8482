"""LiveKit's Python SDK (a native WebRTC stack under it) in calls."""

import asyncio

import numpy as np
import pytest
from livekit import rtc
from livekit.rtc.participant import PublishDataTrackError

from conftest import PATIENCE_S

RATE = 48_000
WIDTH, HEIGHT = 320, 180


class Tone:
    """Publishes a 440 Hz tone until it is stopped."""

    def __init__(self, room):
        self.room = room
        self.source = rtc.AudioSource(RATE, 1)
        self.track = rtc.LocalAudioTrack.create_audio_track("tone", self.source)

    async def start(self):
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self.publication = await self.room.local_participant.publish_track(self.track, options)
        self.task = asyncio.create_task(self._play())
        return self

    async def _play(self):
        count = RATE // 100
        start = 0
        while True:
            time = (np.arange(count) + start) / RATE
            samples = (np.sin(2 * np.pi * 440 * time) * 12_000).astype(np.int16)
            # capture_frame paces itself to real time.
            await self.source.capture_frame(rtc.AudioFrame(samples.tobytes(), RATE, 1, count))
            start += count

    def stop(self):
        self.task.cancel()


class Picture:
    """Publishes a moving grey picture until it is stopped."""

    def __init__(self, room):
        self.room = room
        self.source = rtc.VideoSource(WIDTH, HEIGHT)
        self.track = rtc.LocalVideoTrack.create_video_track("picture", self.source)

    async def start(self, codec=rtc.VideoCodec.VP8):
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False, video_codec=codec)
        self.publication = await self.room.local_participant.publish_track(self.track, options)
        self.task = asyncio.create_task(self._play())
        return self

    async def _play(self):
        shade = 0
        while True:
            shade = (shade + 8) % 256
            frame = np.full((HEIGHT, WIDTH, 4), shade, dtype=np.uint8)
            self.source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, frame.tobytes()))
            await asyncio.sleep(1 / 15)

    def stop(self):
        self.task.cancel()


async def hears_tone(track):
    """Waits until audio with the tone's energy is decoded."""
    stream = rtc.AudioStream(track)
    async with asyncio.timeout(PATIENCE_S):
        async for event in stream:
            samples = np.frombuffer(event.frame.data, dtype=np.int16).astype(np.float64)
            if np.sqrt(np.mean(samples**2)) > 1_000:
                break
    await stream.aclose()


async def sees_picture(track, frames=10):
    """Waits until some frames are decoded whose shade changes."""
    stream = rtc.VideoStream(track)
    shades = set()
    async with asyncio.timeout(PATIENCE_S):
        async for event in stream:
            frame = event.frame.convert(rtc.VideoBufferType.RGBA)
            assert (frame.width, frame.height) == (WIDTH, HEIGHT)
            shades.add(frame.data[0] // 8)
            if len(shades) >= frames:
                break
    await stream.aclose()


async def subscribed(room, kind):
    track, _, _ = await room.events.next("track_subscribed", lambda track, *_: track.kind == kind)
    return track


async def test_audio_and_video_arrive(people):
    ann = await people("media", "ann")
    bob = await people("media", "bob")
    await ann.events.next("participant_connected", lambda p: p.identity == "bob")
    tone = await Tone(ann).start()
    picture = await Picture(ann).start()
    await hears_tone(await subscribed(bob, rtc.TrackKind.KIND_AUDIO))
    await sees_picture(await subscribed(bob, rtc.TrackKind.KIND_VIDEO))
    await ann.events.next("local_track_subscribed")

    # Who comes later hears and sees what is already there.
    cyn = await people("media", "cyn")
    await hears_tone(await subscribed(cyn, rtc.TrackKind.KIND_AUDIO))
    await sees_picture(await subscribed(cyn, rtc.TrackKind.KIND_VIDEO))

    speakers, = await bob.events.next("active_speakers_changed", lambda speakers: len(speakers) > 0)
    assert [speaker.identity for speaker in speakers] == ["ann"]

    await ann.local_participant.unpublish_track(picture.publication.sid)
    publication, participant = await bob.events.next("track_unpublished")
    assert participant.identity == "ann" and publication.kind == rtc.TrackKind.KIND_VIDEO
    tone.stop()
    picture.stop()


@pytest.mark.parametrize("codec", [rtc.VideoCodec.H264, rtc.VideoCodec.VP9, rtc.VideoCodec.AV1])
async def test_other_codecs_arrive(people, codec):
    ann = await people(f"codec-{codec}", "ann")
    bob = await people(f"codec-{codec}", "bob")
    picture = await Picture(ann).start(codec)
    await sees_picture(await subscribed(bob, rtc.TrackKind.KIND_VIDEO))
    picture.stop()


async def test_mute_is_seen_by_others(people):
    ann = await people("mute", "ann")
    bob = await people("mute", "bob")
    tone = await Tone(ann).start()
    await hears_tone(await subscribed(bob, rtc.TrackKind.KIND_AUDIO))
    tone.track.mute()
    participant, publication = await bob.events.next("track_muted")
    assert participant.identity == "ann" and publication.muted
    tone.track.unmute()
    await bob.events.next("track_unmuted")
    tone.stop()


async def test_data_reaches_whom_it_is_for(people):
    ann = await people("data", "ann")
    bob = await people("data", "bob")
    cyn = await people("data", "cyn")

    await ann.local_participant.publish_data(b"to all", reliable=True, topic="t")
    for person in (bob, cyn):
        packet, = await person.events.next("data_received")
        assert (packet.data, packet.topic, packet.participant.identity) == (b"to all", "t", "ann")

    await ann.local_participant.publish_data(b"for bob", reliable=True, destination_identities=["bob"])
    await ann.local_participant.publish_data(b"end", reliable=True)
    packet, = await bob.events.next("data_received")
    assert packet.data == b"for bob"
    packet, = await cyn.events.next("data_received")
    assert packet.data == b"end", "what was for Bob alone must not reach Cyn"

    await bob.local_participant.publish_data(b"lossy", reliable=False)
    packet, = await ann.events.next("data_received")
    assert (packet.data, packet.participant.identity) == (b"lossy", "bob")

    big = bytes(range(256)) * 50
    await ann.local_participant.publish_data(big, reliable=True)
    packet, = await cyn.events.next("data_received")
    assert packet.data == b"lossy"
    packet, = await cyn.events.next("data_received")
    assert packet.data == big


async def packets(room):
    """How many packets of data tracks a room received."""
    stats = await room.get_rtc_stats()
    channels = [stat.data_channel.dc for stat in stats.subscriber_stats if stat.HasField("data_channel")]
    return next(channel.messages_received for channel in channels if channel.label == "_data_track")


async def test_data_tracks_reach_their_subscribers(people):
    ann = await people("data-track", "ann")
    bob = await people("data-track", "bob")
    cyn = await people("data-track", "cyn")
    published = await ann.local_participant.publish_data_track(name="arm")
    assert published.info.sid.startswith("DTR_")
    track, = await bob.events.next("data_track_published")
    assert (track.info.name, track.info.sid, track.publisher_identity) == ("arm", published.info.sid, "ann")
    await cyn.events.next("data_track_published")

    async def frames(stream, count):
        # Frames are not repeated, and those sent before the subscription stands go nowhere: more are sent meanwhile.
        received = []
        pushing = asyncio.create_task(push())
        async with asyncio.timeout(PATIENCE_S):
            while len(received) < count:
                received.append(await anext(stream))
        pushing.cancel()
        return received

    sent = {}

    async def push():
        while True:
            number = len(sent)
            # Some fit one packet, some do not.
            sent[number] = number.to_bytes(4, "big") + bytes([number % 256]) * (10 if number % 2 else 40_000)
            published.try_push(rtc.DataTrackFrame(payload=sent[number], user_timestamp=number))
            await asyncio.sleep(0.05)

    stream = track.subscribe()
    received = await frames(stream, 10)
    for frame in received:
        assert frame.payload == sent[frame.user_timestamp]
    assert {len(frame.payload) for frame in received} == {14, 40_004}

    assert await packets(bob) >= 10
    assert await packets(cyn) == 0, "Cyn did not subscribe"

    # Who comes later knows of the track, too, and a second subscriber takes nothing from the first.
    dan = await people("data-track", "dan")
    late, = await dan.events.next("data_track_published")
    other = late.subscribe()
    assert all(frame.payload == sent[frame.user_timestamp] for frame in await frames(other, 4))
    assert all(frame.payload == sent[frame.user_timestamp] for frame in await frames(stream, 4))

    # A track of Cyn's comes under a handle that its subscriber does not mix up with the first.
    leg = await cyn.local_participant.publish_data_track(name="leg")
    second, = await bob.events.next("data_track_published", lambda track: track.info.name == "leg")
    legs = second.subscribe()

    async def kick():
        while True:
            leg.try_push(rtc.DataTrackFrame(payload=b"kick"))
            await asyncio.sleep(0.05)

    kicking = asyncio.create_task(kick())
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(legs)).payload == b"kick"
    kicking.cancel()

    await published.unpublish()
    sid, = await bob.events.next("data_track_unpublished")
    assert sid == published.info.sid
    assert not track.is_published()


async def test_data_tracks_need_the_permission_to_send_data(people):
    ann = await people("data-track-rules", "ann", can_publish_data=False)
    with pytest.raises(PublishDataTrackError, match="unauthorized"):
        await ann.local_participant.publish_data_track(name="arm")


async def test_text_streams_and_rpc_are_relayed(people):
    ann = await people("streams", "ann")
    bob = await people("streams", "bob")
    received = asyncio.get_running_loop().create_future()

    def handler(reader, identity):
        async def read():
            received.set_result((identity, await reader.read_all()))

        asyncio.create_task(read())

    bob.register_text_stream_handler("notes", handler)
    text = "long text " * 4_000
    await ann.local_participant.send_text(text, topic="notes")
    assert await asyncio.wait_for(received, PATIENCE_S) == ("ann", text)

    @bob.local_participant.register_rpc_method("double")
    async def double(invocation):
        return str(2 * int(invocation.payload))

    answer = await ann.local_participant.perform_rpc(destination_identity="bob", method="double", payload="21")
    assert answer == "42"


async def test_attributes_name_and_metadata(people):
    ann = await people("names", "ann", can_update_own_metadata=True)
    bob = await people("names", "bob")
    await ann.local_participant.set_attributes({"hand": "up"})
    changed, participant = await bob.events.next("participant_attributes_changed")
    assert (changed, participant.identity) == ({"hand": "up"}, "ann")
    await ann.local_participant.set_name("Annie")
    _, _, name = await bob.events.next("participant_name_changed")
    assert name == "Annie"
    await ann.local_participant.set_metadata("m")
    participant, _, metadata = await bob.events.next("participant_metadata_changed")
    assert (participant.identity, metadata) == ("ann", "m")


async def test_leaving_is_seen(people):
    ann = await people("leave", "ann")
    bob = await people("leave", "bob")
    await bob.disconnect()
    participant, = await ann.events.next("participant_disconnected")
    assert participant.identity == "bob"


async def test_the_same_identity_replaces_the_first(people):
    first = await people("twice", "ann")
    second = await people("twice", "ann")
    reason, = await first.events.next("disconnected")
    assert reason == rtc.DisconnectReason.DUPLICATE_IDENTITY
    assert second.isconnected()


async def test_permissions_of_the_token_hold(people):
    ann = await people("rules", "ann", can_publish=False)
    bob = await people("rules", "bob")
    with pytest.raises(Exception):
        await asyncio.wait_for(Tone(ann).start(), 15)
    await people("rules", "ghost", hidden=True)
    dan = await people("rules", "dan")
    assert set(dan.remote_participants) == {"ann", "bob"}
    assert bob.isconnected()


class Proxy:
    """A TCP proxy in front of the server whose connections can be cut."""

    def __init__(self, port):
        self.target = port
        self.writers = []
        self.lets_in = asyncio.Event()
        self.lets_in.set()

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader, writer):
        await self.lets_in.wait()
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += [writer, upstream_writer]
        await asyncio.gather(self._copy(reader, upstream_writer), self._copy(upstream_reader, writer))

    async def _copy(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()
        self.writers = []


async def test_a_broken_socket_is_resumed(people, server):
    proxy = Proxy(server.port)
    url = await proxy.start()
    ann = await people("resume", "ann", url=url)
    bob = await people("resume", "bob")
    tone = await Tone(ann).start()
    track = await subscribed(bob, rtc.TrackKind.KIND_AUDIO)
    await hears_tone(track)
    sid = ann.local_participant.sid

    proxy.cut()
    await ann.events.next("reconnecting")
    await hears_tone(track)
    await ann.events.next("reconnected")
    await hears_tone(track)
    assert ann.local_participant.sid == sid, "a resume keeps the session"
    assert bob.events.queues["participant_disconnected"].empty()

    await bob.local_participant.publish_data(b"after", reliable=True)
    packet, = await ann.events.next("data_received")
    assert packet.data == b"after"
    tone.stop()


async def test_data_tracks_outlast_a_broken_socket(people, server):
    proxy = Proxy(server.port)
    url = await proxy.start()
    ann = await people("data-track-resume", "ann", url=url)
    bob = await people("data-track-resume", "bob", url=url)
    published = await ann.local_participant.publish_data_track(name="arm")
    track, = await bob.events.next("data_track_published")
    stream = track.subscribe()

    pushed = 0

    async def push():
        nonlocal pushed
        while True:
            published.try_push(rtc.DataTrackFrame(payload=b"frame", user_timestamp=pushed))
            pushed += 1
            await asyncio.sleep(0.05)

    pushing = asyncio.create_task(push())
    async with asyncio.timeout(PATIENCE_S):
        await anext(stream)
        sids = [person.local_participant.sid for person in (ann, bob)]
        proxy.cut()
        for person in (ann, bob):
            await person.events.next("reconnected")
        assert [person.local_participant.sid for person in (ann, bob)] == sids, "a resume keeps the session"
        resumed = pushed
        while (await anext(stream)).user_timestamp < resumed:
            pass
    pushing.cancel()
    assert published.is_published() and track.is_published()
    assert bob.events.queues["data_track_published"].empty()
