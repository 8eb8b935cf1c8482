"""Joins COUNT people to a room for tests that drive something else: small pictures, quiet sound, nothing received.

    crowd.py URL ROOM COUNT

Prints "ready" when everybody publishes, and stays until it is killed or the server is gone.
"""

import asyncio
import sys

import numpy as np
from livekit import api, rtc

WIDTH, HEIGHT = 320, 180
FRAMES_PER_S = 5
RATE = 16_000
# Sound in long pieces: a call of Python per 10 ms and person would take a core.
PIECE_S = 0.2
# Quieter than what counts as speaking, so that nobody changes places.
AMPLITUDE = 100


def token(room, number):
    grants = api.VideoGrants(room_join=True, room=room)
    access = api.AccessToken("devkey", "secret").with_identity(f"guest-{number}").with_name(f"Guest {number}")
    return access.with_grants(grants).to_jwt()


def background(number, count):
    """A colour per person, darker towards the bottom."""
    angle = 2 * np.pi * number / count
    colour = 110 + 70 * np.cos(angle + np.array([0, 2, 4]) * np.pi / 3)
    picture = np.full((HEIGHT, WIDTH, 4), 255, dtype=np.uint8)
    picture[:, :, :3] = (np.linspace(1, 0.5, HEIGHT)[:, None, None] * colour).astype(np.uint8)
    return picture


async def play_picture(source, still):
    step = 0
    while True:
        picture = still.copy()
        left = step % (WIDTH - 20)
        picture[70:110, left : left + 20, :3] = 235
        source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, picture.tobytes()))
        step += 8
        await asyncio.sleep(1 / FRAMES_PER_S)


async def play_tone(source, hertz):
    samples = int(RATE * PIECE_S)
    start = 0
    while True:
        time = (np.arange(samples) + start) / RATE
        piece = (np.sin(2 * np.pi * hertz * time) * AMPLITUDE).astype(np.int16)
        # Paces itself: waits while its queue is full.
        await source.capture_frame(rtc.AudioFrame(piece.tobytes(), RATE, 1, samples))
        start += samples


async def join(url, name, number, count, gone):
    room = rtc.Room()
    room.on("disconnected", lambda *_: gone.set())
    await room.connect(url, token(name, number), rtc.RoomOptions(auto_subscribe=False))
    picture = rtc.VideoSource(WIDTH, HEIGHT)
    tone = rtc.AudioSource(RATE, 1)
    playing = [
        asyncio.create_task(play_picture(picture, background(number, count))),
        asyncio.create_task(play_tone(tone, 200 + 20 * number)),
    ]
    me = room.local_participant
    await me.publish_track(
        rtc.LocalVideoTrack.create_video_track("picture", picture),
        rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False, video_codec=rtc.VideoCodec.VP8),
    )
    await me.publish_track(
        rtc.LocalAudioTrack.create_audio_track("tone", tone),
        rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
    )
    return room, playing


async def main(url, name, count):
    gone = asyncio.Event()
    url = url.replace("http", "ws", 1)
    # In order, so that the order of the tiles is known.
    kept = [await join(url, name, number + 1, count, gone) for number in range(count)]
    print("ready", flush=True)
    await gone.wait()
    del kept


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
