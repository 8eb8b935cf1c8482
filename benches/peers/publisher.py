#!/usr/bin/env python3
"""A publisher of VP8 in plain RTP, for servers that take it: publisher.py ADDRESS PORT PACKETS_PER_S PACKET_BYTES

Thirty frames a second, each sent at once, the first and every 300th a key frame. Frames are of one size, and so are packets.
"""

import socket
import struct
import sys
import time

FPS = 30
KEYFRAME_EVERY = 300
PAYLOAD_TYPE, SSRC = 96, 0x5EED


def main():
    address, port, rate, packet_bytes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((address, port))
    filling = bytes(packet_bytes)
    sequence = owed = frame = 0
    begin = time.monotonic()
    while True:
        # Packets per frame are whole numbers; the rate holds on average.
        owed += rate / FPS
        packets, owed = int(owed), owed - int(owed)
        keyframe = frame % KEYFRAME_EVERY == 0
        for n in range(packets):
            # RFC 7741: descriptor (start of the first partition), then VP8's own header, whose lowest bit is 0 in key frames.
            payload = bytes([0x10 if n == 0 else 0, 0x10 if keyframe else 0x11])
            marker = 0x80 if n + 1 == packets else 0
            header = struct.pack("!BBHII", 0x80, marker | PAYLOAD_TYPE, sequence & 0xFFFF, frame * 90000 // FPS & 0xFFFFFFFF, SSRC)
            try:
                out.send((header + payload + filling)[:packet_bytes])
            except ConnectionRefusedError:
                # The server is not there yet, or no longer.
                pass
            sequence += 1
        frame += 1
        time.sleep(max(0, begin + frame / FPS - time.monotonic()))


main()
