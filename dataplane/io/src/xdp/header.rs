//! Ethernet, IP and UDP headers: read from frames that were redirected, written into frames that are sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const ETHERNET_BYTES: usize = 14;
pub(super) const UDP_BYTES: usize = 8;
pub(super) const V4_BYTES: usize = ETHERNET_BYTES + 20 + UDP_BYTES;
pub(super) const V6_BYTES: usize = ETHERNET_BYTES + 40 + UDP_BYTES;

/// Room in front of a datagram for its headers: a cache line, so that datagrams begin on one.
pub(super) const ROOM_BYTES: usize = 64;
const _: () = assert!(ROOM_BYTES >= V6_BYTES && ROOM_BYTES == sluice_frames::HEADROOM_BYTES);

const ETHERTYPE: std::ops::Range<usize> = 12..14;
const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];
const UDP: u8 = 17;

/// As the kernel's default (RFC 1700 recommends 64).
const HOP_LIMIT: u8 = 64;

/// Who fills in the UDP checksum of what is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// The device, or the kernel where the device cannot (XDP_TXMD_FLAGS_CHECKSUM, Linux 6.8; copy mode only, as zero-copy
    /// drivers differ). The default where it is there.
    Offload,
    /// This thread, about 60 ns for 1,200 bytes. The default elsewhere.
    Full,
    /// Nobody: IPv4 goes without (RFC 768 permits it; some NATs and clients drop such datagrams), IPv6 must not (RFC 8200
    /// section 8.1) and is summed by this thread.
    Zero,
}

/// What the headers of a received frame say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heading {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Where the datagram begins and how long it is; inside the frame.
    pub(super) start: usize,
    pub(super) bytes: usize,
}

/// Reads the headers that the program lets through: none is optional or longer than usual. None if they contradict each
/// other, or if the sender is nobody one could answer.
///
/// The checksum is not verified: a sender on the same machine leaves it to the device, which veth is not. What is wrong
/// inside is found by STUN's, DTLS' and SRTP's own integrity checks.
pub(super) fn parse(frame: &[u8]) -> Option<Heading> {
    let (start, ip_bytes, from, to): (usize, usize, IpAddr, IpAddr) = match frame.get(ETHERTYPE)? {
        IPV4 if frame.len() >= V4_BYTES && frame[14] == 0x45 && frame[23] == UDP => {
            let total = usize::from(half(frame, 16));
            (V4_BYTES, total.checked_sub(20)?, v4(frame, 26).into(), v4(frame, 30).into())
        }
        IPV6 if frame.len() >= V6_BYTES && frame[14] >> 4 == 6 && frame[20] == UDP => {
            (V6_BYTES, usize::from(half(frame, 18)), v6(frame, 22).into(), v6(frame, 38).into())
        }
        _ => return None,
    };
    let udp = start - UDP_BYTES;
    let bytes = usize::from(half(frame, udp + 4)).checked_sub(UDP_BYTES)?;
    if bytes + UDP_BYTES > ip_bytes || start + bytes > frame.len() || !is_answerable(from, frame) {
        return None;
    }
    let from = SocketAddr::new(from, half(frame, udp));
    Some(Heading { from, to: SocketAddr::new(to, half(frame, udp + 2)), start, bytes })
}

/// An address that a machine on the network can have. Answers to others would stay on this machine or go to many; the kernel
/// drops them too ("martians"). So do frames that were sent to many.
fn is_answerable(ip: IpAddr, frame: &[u8]) -> bool {
    let is_to_one = frame[0] & 1 == 0 && frame[6] & 1 == 0;
    let is_host = match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_multicast() && ip.octets()[0] != 0 && ip.octets()[0] < 240,
        IpAddr::V6(ip) => {
            !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified() && ip.to_ipv4_mapped().is_none()
        }
    };
    is_to_one && is_host
}

/// Headers of everything that is sent to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// The headers end where the datagram begins; lengths and checksums are zero.
    room: [u8; ROOM_BYTES],
    header_bytes: usize,
    /// Sums of what does not change: the IPv4 header, and what UDP sums of the addresses (RFC 768).
    ip_sum: u32,
    pseudo_sum: u32,
}

impl Answer {
    /// The way back of a frame that began with these headers: every address changes its place. None if they are none.
    pub(super) fn to(headers: &[u8]) -> Option<Answer> {
        let header_bytes = match headers.get(ETHERTYPE)? {
            IPV4 if headers.len() == V4_BYTES => V4_BYTES,
            IPV6 if headers.len() == V6_BYTES => V6_BYTES,
            _ => return None,
        };
        let mut room = [0; ROOM_BYTES];
        let header = &mut room[ROOM_BYTES - header_bytes..];
        header[..6].copy_from_slice(&headers[6..12]);
        header[6..12].copy_from_slice(&headers[..6]);
        header[ETHERTYPE].copy_from_slice(&headers[ETHERTYPE]);
        let udp = header_bytes - UDP_BYTES;
        header[udp..udp + 2].copy_from_slice(&headers[udp + 2..udp + 4]);
        header[udp + 2..udp + 4].copy_from_slice(&headers[udp..udp + 2]);
        let ip = &mut header[ETHERNET_BYTES..udp];
        let addresses = if header_bytes == V4_BYTES {
            ip[0] = 0x45;
            // Never to be cut up on the way (RFC 8899 asks for that where the path's MTU matters); such need no number
            // (RFC 6864).
            ip[6] = 0x40;
            ip[8] = HOP_LIMIT;
            ip[9] = UDP;
            ip[12..16].copy_from_slice(&headers[30..34]);
            ip[16..20].copy_from_slice(&headers[26..30]);
            12..20
        } else {
            ip[0] = 0x60;
            ip[6] = UDP;
            ip[7] = HOP_LIMIT;
            ip[8..24].copy_from_slice(&headers[38..54]);
            ip[24..40].copy_from_slice(&headers[22..38]);
            8..40
        };
        let pseudo_sum = fold(sum(&ip[addresses])) + u32::from(UDP);
        let ip_sum = fold(sum(ip));
        Some(Answer { room, header_bytes, ip_sum, pseudo_sum })
    }

    pub(super) fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Where the UDP header begins, from the frame's first byte.
    pub(super) fn udp(&self) -> usize {
        self.header_bytes - UDP_BYTES
    }

    /// Writes the headers into the room in front of `bytes` of a datagram.
    pub(super) fn write(&self, room_and_datagram: &mut [u8], bytes: usize, checksum: Checksum) {
        let (room, datagram) = room_and_datagram.split_at_mut(ROOM_BYTES);
        room.copy_from_slice(&self.room);
        let udp_bytes = (bytes + UDP_BYTES) as u16;
        let is_v4 = self.header_bytes == V4_BYTES;
        let ip = ROOM_BYTES - self.header_bytes + ETHERNET_BYTES;
        if is_v4 {
            let total = udp_bytes + 20;
            put(room, ip + 2, total);
            put(room, ip + 10, !finish(u64::from(self.ip_sum) + u64::from(total)));
        } else {
            put(room, ip + 4, udp_bytes);
        }
        put(room, ROOM_BYTES - 4, udp_bytes);
        let pseudo_sum = u64::from(self.pseudo_sum) + u64::from(udp_bytes);
        let sum = match checksum {
            // Whoever completes it begins with what stands there.
            Checksum::Offload => finish(pseudo_sum),
            Checksum::Zero if is_v4 => 0,
            Checksum::Full | Checksum::Zero => {
                let ports_and_length = u64::from(fold(sum(&room[ROOM_BYTES - UDP_BYTES..ROOM_BYTES - 2])));
                match !finish(pseudo_sum + ports_and_length + u64::from(fold(sum(&datagram[..bytes])))) {
                    // Zero would mean "none" (RFC 768).
                    0 => 0xffff,
                    sum => sum,
                }
            }
        };
        put(room, ROOM_BYTES - 2, sum);
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    let octets: [u8; 4] = std::array::from_fn(|i| bytes[at + i]);
    octets.into()
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = std::array::from_fn(|i| bytes[at + i]);
    octets.into()
}

/// Sum of the 16-bit words (RFC 1071), as this machine reads them, in 32-bit steps that the compiler makes wider ones of. It
/// does not overflow: a frame has far fewer than 2^32 words.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_ne_bytes(last));
    sum
}

/// A [`sum`] in 16 bits, as the network reads them.
fn fold(sum: u64) -> u32 {
    u32::from(u16::from_be(finish(sum)))
}

fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame from 192.0.2.1:1000 or its IPv6 like to port 2000, with this datagram.
    fn frame(ipv4: bool, datagram: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let udp_bytes = (datagram.len() + UDP_BYTES) as u16;
        if ipv4 {
            frame.extend(IPV4);
            frame.extend([0x45, 0]);
            frame.extend((udp_bytes + 20).to_be_bytes());
            frame.extend([0, 7, 0x40, 0, 50, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        } else {
            frame.extend(IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(udp_bytes.to_be_bytes());
            frame.extend([UDP, 50]);
            for last in [1, 2] {
                frame.extend("2001:db8::".parse::<Ipv6Addr>().unwrap().octets());
                *frame.last_mut().unwrap() = last;
            }
        }
        frame.extend(1000u16.to_be_bytes());
        frame.extend(2000u16.to_be_bytes());
        frame.extend(udp_bytes.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(datagram);
        frame
    }

    /// The checksum over these bytes and a pseudo-header as RFC 768 and RFC 8200 say, the slow way.
    fn rfc1071(parts: &[&[u8]]) -> u16 {
        let all: Vec<u8> = parts.concat();
        let sum = all.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum: u32 = sum.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn headers_are_read() {
        for (ipv4, from, to) in
            [(true, "192.0.2.1:1000", "192.0.2.2:2000"), (false, "[2001:db8::1]:1000", "[2001:db8::2]:2000")]
        {
            let mut bytes = frame(ipv4, b"hello");
            // Short frames are padded on the way.
            bytes.extend([0; 20]);
            let heading = parse(&bytes).unwrap();
            assert_eq!((heading.from, heading.to), (from.parse().unwrap(), to.parse().unwrap()));
            assert_eq!(&bytes[heading.start..heading.start + heading.bytes], b"hello");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for ipv4 in [true, false] {
            let good = frame(ipv4, b"hello");
            let header_bytes = good.len() - 5;
            let check = |about: &str, change: &dyn Fn(&mut Vec<u8>)| {
                let mut bad = good.clone();
                change(&mut bad);
                assert_eq!(parse(&bad), None, "{about}");
            };
            for cut in 0..good.len() {
                check("cut short", &|bytes| bytes.truncate(cut));
            }
            let udp = header_bytes - UDP_BYTES;
            check("UDP longer than IP", &|bytes| bytes[udp + 5] += 1);
            check("UDP shorter than its header", &|bytes| bytes[udp + 5] = 7);
            check("IP shorter than UDP", &|bytes| bytes[if ipv4 { 17 } else { 19 }] -= 1);
            check("another protocol", &|bytes| bytes[if ipv4 { 23 } else { 20 }] = 6);
            check("a VLAN tag", &|bytes| bytes[12..14].copy_from_slice(&[0x81, 0x00]));
            check("to many", &|bytes| bytes[0] |= 1);
            let source = if ipv4 { 26 } else { 22 };
            let sources: &[&[u8]] = if ipv4 {
                &[&[127, 0, 0, 1], &[0, 0, 0, 0], &[224, 0, 0, 1], &[255, 255, 255, 255]]
            } else {
                &[
                    &Ipv6Addr::LOCALHOST.octets(),
                    &Ipv6Addr::UNSPECIFIED.octets(),
                    &[0xff; 16],
                    &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
                ]
            };
            for from in sources {
                check("from nobody", &|bytes| bytes[source..source + from.len()].copy_from_slice(from));
            }
        }
    }

    #[test]
    fn answers_go_back_with_right_lengths_and_checksums() {
        for ipv4 in [true, false] {
            let received = frame(ipv4, b"");
            let answer = Answer::to(&received).unwrap();
            for bytes in [0, 1, 2, 3, 100, 1199, 1200] {
                for checksum in [Checksum::Full, Checksum::Zero, Checksum::Offload] {
                    let mut memory = vec![0xee; ROOM_BYTES + 2048];
                    for (at, byte) in memory[ROOM_BYTES..].iter_mut().enumerate() {
                        *byte = (at * 7) as u8;
                    }
                    answer.write(&mut memory, bytes, checksum);
                    let sent = &memory[ROOM_BYTES - answer.header_bytes()..ROOM_BYTES + bytes];
                    let (there, back) = (parse(&received).unwrap(), parse(sent).unwrap());
                    assert_eq!((back.from, back.to, back.bytes), (there.to, there.from, bytes));
                    assert_eq!((&sent[..6], &sent[6..12]), (&received[6..12], &received[..6]));
                    let udp = &sent[answer.udp()..];
                    let addresses = if ipv4 { &sent[26..34] } else { &sent[22..54] };
                    let length = ((bytes + UDP_BYTES) as u16).to_be_bytes();
                    if ipv4 {
                        assert_eq!(rfc1071(&[&sent[14..34]]), 0, "the IPv4 header's checksum");
                    }
                    match checksum {
                        Checksum::Zero if ipv4 => assert_eq!(udp[6..8], [0, 0]),
                        Checksum::Offload => {
                            let pseudo = !rfc1071(&[addresses, &[0, UDP], &length]);
                            assert_eq!(udp[6..8], pseudo.to_be_bytes());
                        }
                        Checksum::Full | Checksum::Zero => {
                            assert_eq!(
                                rfc1071(&[addresses, &[0, UDP], &length, udp]),
                                0,
                                "{bytes} bytes, {checksum:?}"
                            );
                            assert_ne!(udp[6..8], [0, 0]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_sum_of_zero_is_written_as_ones() {
        let answer = Answer::to(&frame(true, b"")).unwrap();
        let mut memory = vec![0; ROOM_BYTES + 2];
        answer.write(&mut memory, 2, Checksum::Full);
        // What was summed comes out as its complement; with it as the datagram, the sum is zero.
        let sum: [u8; 2] = memory[ROOM_BYTES - 2..ROOM_BYTES].try_into().unwrap();
        memory[ROOM_BYTES..].copy_from_slice(&sum);
        answer.write(&mut memory, 2, Checksum::Full);
        assert_eq!(memory[ROOM_BYTES - 2..ROOM_BYTES], [0xff, 0xff]);
    }
}
