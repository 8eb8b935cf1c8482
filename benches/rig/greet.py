#!/usr/bin/env python3
"""Says something to a server from many ports, ten times a second until it is ended: greet.py FROM FIRST COUNT TO PORT"""

import socket
import sys
import time

source, first, count, to, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
sockets = []
for n in range(count):
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sockets[-1].bind((source, first + n))
while True:
    for one in sockets:
        one.sendto(b"hello", (to, port))
    time.sleep(0.1)
