"""LiveKit's Python SDK through provoked failures: what is resumed, what starts anew, and what is over."""

import asyncio

import pytest
from livekit import rtc
from livekit.rtc import SimulateScenarioKind as Kind

from conftest import PATIENCE_S
from test_rtc import Picture, Proxy, Tone, hears_tone, sees_picture, subscribed


async def call(people, name):
    """Ann publishes a tone and a picture, Bob hears and sees them."""
    ann, bob = await people(name, "ann"), await people(name, "bob")
    tone, picture = await Tone(ann).start(), await Picture(ann).start()
    tracks = await subscribed(bob, rtc.TrackKind.KIND_AUDIO), await subscribed(bob, rtc.TrackKind.KIND_VIDEO)
    await hears_tone(tracks[0])
    await sees_picture(tracks[1])
    return ann, bob, tone, picture, tracks


def published(room, identity):
    """Kinds of what somebody publishes, as a room knows it."""
    return sorted(publication.kind for publication in room.remote_participants[identity].track_publications.values())


ONE_OF_EACH = sorted([rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO])


async def test_a_resume_keeps_everything(people):
    ann, bob, tone, picture, tracks = await call(people, "signal-reconnect")
    sid, sids = bob.remote_participants["ann"].sid, set(bob.remote_participants["ann"].track_publications)
    await ann.simulate_scenario(Kind.SIMULATE_SIGNAL_RECONNECT)
    await ann.events.next("reconnected")
    await hears_tone(tracks[0])
    await sees_picture(tracks[1])
    assert bob.remote_participants["ann"].sid == sid
    assert set(bob.remote_participants["ann"].track_publications) == sids
    for event in ("participant_disconnected", "track_unpublished", "track_unsubscribed"):
        assert bob.events.queues[event].empty(), event
    tone.stop()
    picture.stop()


# A resume that breaks, too, makes this SDK start anew.
SCENARIOS = ["FULL_RECONNECT", "NODE_FAILURE", "MIGRATION", "DISCONNECT_SIGNAL_ON_RESUME"]


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_full_reconnect_publishes_each_source_once(people, scenario):
    ann, bob, tone, picture, _ = await call(people, scenario)
    sid = bob.remote_participants["ann"].sid
    await ann.simulate_scenario(Kind.Value(f"SIMULATE_{scenario}"))
    await ann.events.next("reconnected")
    # In whichever order they come.
    tracks = {track.kind: track for track, _, _ in [await bob.events.next("track_subscribed") for _ in range(2)]}
    await hears_tone(tracks[rtc.TrackKind.KIND_AUDIO])
    await sees_picture(tracks[rtc.TrackKind.KIND_VIDEO])
    assert bob.remote_participants["ann"].sid != sid, "a new session"
    assert published(bob, "ann") == ONE_OF_EACH
    assert len(ann.local_participant.track_publications) == 2
    # One who joins now finds the same.
    cyn = await people(scenario, "cyn")
    assert published(cyn, "ann") == ONE_OF_EACH
    assert set(cyn.remote_participants) == {"ann", "bob"}
    tone.stop()
    picture.stop()


async def test_a_server_that_says_leave_ends_the_session(people):
    ann, bob, tone, picture, _ = await call(people, "server-leave")
    await ann.simulate_scenario(Kind.SIMULATE_SERVER_LEAVE)
    await ann.events.next("disconnected")
    participant, = await bob.events.next("participant_disconnected")
    assert participant.identity == "ann"
    tone.stop()
    picture.stop()


async def received(room, count):
    """Bodies of the next data packets."""
    return [(await room.events.next("data_received"))[0].data for _ in range(count)]


@pytest.mark.parametrize("broken", ["bob", "ann"])
async def test_reliable_data_sent_while_a_socket_is_broken_arrives_once(people, server, broken):
    proxy = Proxy(server.port)
    urls = {broken: await proxy.start()}
    ann = await people(f"data-{broken}", "ann", url=urls.get("ann"))
    bob = await people(f"data-{broken}", "bob", url=urls.get("bob"))
    away, other = {"ann": (ann, bob), "bob": (bob, ann)}[broken]
    sid = other.remote_participants[broken].sid
    await ann.local_participant.publish_data(b"before", reliable=True)
    assert await received(bob, 1) == [b"before"]

    # It waits at the door until all is sent; one that is turned away would start anew instead of resuming.
    proxy.lets_in.clear()
    proxy.cut()
    await away.events.next("reconnecting")
    numbers = [str(number).encode() for number in range(20)]
    sending = asyncio.gather(*(ann.local_participant.publish_data(number, reliable=True) for number in numbers))
    if broken == "bob":
        await asyncio.wait_for(sending, PATIENCE_S)
    proxy.lets_in.set()
    await away.events.next("reconnected")
    await asyncio.wait_for(sending, PATIENCE_S)
    await ann.local_participant.publish_data(b"end", reliable=True)
    got = await received(bob, 21)
    assert sorted(got[:-1]) == sorted(numbers) and got[-1] == b"end", "each once, and nothing after the end"
    assert bob.events.queues["data_received"].empty()
    assert other.remote_participants[broken].sid == sid, "a resume keeps the session"
