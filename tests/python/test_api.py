"""livekit-api against RoomService."""

import asyncio

import pytest
from livekit import api, rtc

from conftest import PATIENCE_S
from test_rtc import Tone, hears_tone, subscribed


async def test_rooms_are_created_listed_and_deleted(lk, people):
    room = await lk.room.create_room(api.CreateRoomRequest(name="made", metadata="m", empty_timeout=60, max_participants=5))
    assert room.sid.startswith("RM_") and (room.name, room.metadata, room.max_participants) == ("made", "m", 5)
    again = await lk.room.create_room(api.CreateRoomRequest(name="made"))
    assert again.sid == room.sid, "creating a room twice gives the same room"
    listed = await lk.room.list_rooms(api.ListRoomsRequest(names=["made", "absent"]))
    assert [r.name for r in listed.rooms] == ["made"]

    ann = await people("made", "ann")
    assert ann.metadata == "m"
    await lk.room.update_room_metadata(api.UpdateRoomMetadataRequest(room="made", metadata="n"))
    _, metadata = await ann.events.next("room_metadata_changed")
    assert metadata == "n"

    await lk.room.delete_room(api.DeleteRoomRequest(room="made"))
    reason, = await ann.events.next("disconnected")
    assert reason == rtc.DisconnectReason.ROOM_DELETED
    assert not (await lk.room.list_rooms(api.ListRoomsRequest(names=["made"]))).rooms


async def test_participants_are_listed_updated_and_removed(lk, people):
    ann = await people("guests", "ann")
    bob = await people("guests", "bob")
    listed = await lk.room.list_participants(api.ListParticipantsRequest(room="guests"))
    assert sorted(p.identity for p in listed.participants) == ["ann", "bob"]
    one = await lk.room.get_participant(api.RoomParticipantIdentity(room="guests", identity="bob"))
    assert (one.identity, one.name, one.sid) == ("bob", "Bob", bob.local_participant.sid)

    await lk.room.update_participant(
        api.UpdateParticipantRequest(room="guests", identity="bob", metadata="guest", name="Robert", attributes={"k": "v"})
    )
    participant, _, metadata = await ann.events.next("participant_metadata_changed")
    assert (participant.identity, metadata) == ("bob", "guest")
    assert ann.remote_participants["bob"].name == "Robert"

    await lk.room.remove_participant(api.RoomParticipantIdentity(room="guests", identity="bob"))
    reason, = await bob.events.next("disconnected")
    assert reason == rtc.DisconnectReason.PARTICIPANT_REMOVED
    participant, = await ann.events.next("participant_disconnected")
    assert participant.identity == "bob"


async def audio_packets(room):
    """Packets received on all audio streams of the subscriber connection."""
    stats = (await room.get_rtc_stats()).subscriber_stats
    inbound = [s.inbound_rtp for s in stats if s.WhichOneof("stats") == "inbound_rtp"]
    return sum(s.received.packets_received for s in inbound if s.stream.kind == "audio")


async def until_audio(room, flows):
    """Waits for a second in which audio packets arrive, or in which none does."""
    async with asyncio.timeout(PATIENCE_S):
        before = await audio_packets(room)
        while True:
            await asyncio.sleep(1)
            now = await audio_packets(room)
            if (now > before) == flows:
                return
            before = now


async def test_tracks_are_muted_and_subscriptions_changed(lk, people):
    ann = await people("moderated", "ann")
    bob = await people("moderated", "bob")
    tone = await Tone(ann).start()
    await hears_tone(await subscribed(bob, rtc.TrackKind.KIND_AUDIO))
    sid = tone.publication.sid

    for wanted in (False, True):
        await lk.room.update_subscriptions(
            api.UpdateSubscriptionsRequest(room="moderated", identity="bob", track_sids=[sid], subscribe=wanted)
        )
        await until_audio(bob, wanted)

    muted = await lk.room.mute_published_track(
        api.MuteRoomTrackRequest(room="moderated", identity="ann", track_sid=sid, muted=True)
    )
    assert muted.track.muted
    _, publication = await bob.events.next("track_muted")
    assert publication.sid == sid
    await until_audio(bob, False)
    tone.stop()


async def test_permissions_are_changed_live(lk, people):
    ann = await people("live", "ann")
    bob = await people("live", "bob")
    tone = await Tone(ann).start()
    await hears_tone(await subscribed(bob, rtc.TrackKind.KIND_AUDIO))
    await lk.room.update_participant(
        api.UpdateParticipantRequest(
            room="live",
            identity="ann",
            permission=api.ParticipantPermission(can_subscribe=True, can_publish=False, can_publish_data=True),
        )
    )
    publication, participant = await bob.events.next("track_unpublished")
    assert participant.identity == "ann" and publication.sid == tone.publication.sid
    tone.stop()


async def test_data_is_sent(lk, people):
    ann = await people("post", "ann")
    bob = await people("post", "bob")
    await lk.room.send_data(
        api.SendDataRequest(room="post", data=b"hello", kind=0, destination_identities=["bob"], topic="news")
    )
    packet, = await bob.events.next("data_received")
    assert (packet.data, packet.topic, packet.participant) == (b"hello", "news", None)
    await lk.room.send_data(api.SendDataRequest(room="post", data=b"all", kind=0))
    packet, = await ann.events.next("data_received")
    assert packet.data == b"all", "what was for Bob alone must not reach Ann"


async def test_errors_say_what_is_wrong(lk, server):
    with pytest.raises(api.TwirpError) as absent:
        await lk.room.get_participant(api.RoomParticipantIdentity(room="nowhere", identity="nobody"))
    assert absent.value.code == "not_found"
    stranger = api.LiveKitAPI(server.http, "devkey", "wrong-secret")
    with pytest.raises(api.TwirpError) as foreign:
        await stranger.room.list_rooms(api.ListRoomsRequest())
    assert foreign.value.code == "unauthenticated" and "signature" in foreign.value.message
    await stranger.aclose()
