//! Descriptions: our offer of a microphone and a camera, our answers to what the server sends, and what both say.

use std::net::{IpAddr, SocketAddr};

use sluice_messages::{Extension, Fingerprint, IceCredentials};
use sluice_signal::sdp::{Description, Direction, Format, Media, MediaKind, SdpError, Setup};

use crate::{
    measure::Kind,
    publish::{
        AUDIO_MID, Accepted, EXTENSION_LEVEL, EXTENSION_MID, EXTENSION_RID, EXTENSION_TRANSPORT_CC, OPUS, Ssrcs,
        VIDEO_MID, VP8,
    },
    receive::{Negotiated, StreamInfo},
    scenario::{LAYERS, Scenario},
    transport::Remote,
};

/// MediaStreamTrack ids, as AddTrack announces them.
pub const AUDIO_CID: &str = "mic";
pub const VIDEO_CID: &str = "cam";

/// What we say of ourselves.
pub struct Local {
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    /// Our only candidate.
    pub address: SocketAddr,
    pub session: u64,
}

/// A description that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// It cannot be read
    #[error("the server's description cannot be read: {0}")]
    Sdp(#[from] SdpError),
    /// It lacks something
    #[error("the server's description has no {0}")]
    Lacks(&'static str),
}

/// What a description of the server says.
pub struct Offered {
    pub remote: Remote,
    pub description: Description,
}

/// Reads a description of the server.
pub fn read(sdp: &str) -> Result<Offered, DescriptionError> {
    let description = Description::parse(sdp)?;
    let used = || description.media.iter().filter(|media| media.port != 0);
    let ice = used().find_map(|media| media.ice.clone()).ok_or(DescriptionError::Lacks("ICE credentials"))?;
    let fingerprint =
        used().find_map(|media| media.fingerprint).ok_or(DescriptionError::Lacks("SHA-256 fingerprint"))?;
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let candidates = lines.filter_map(candidate).collect();
    Ok(Offered { remote: Remote { ice, fingerprint, candidates }, description })
}

/// The UDP address of what follows `candidate:` (RFC 8839 section 5.1). None for TCP, for RTCP's component, and for names.
pub fn candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(1);
    let (component, transport) = (words.next()?, words.next()?);
    let ip: IpAddr = words.nth(1)?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    (component == "1" && transport.eq_ignore_ascii_case("udp")).then_some(SocketAddr::new(ip, port))
}

/// Offers what the scenario publishes.
pub fn offer(scenario: &Scenario, local: &Local, ssrcs: &Ssrcs) -> String {
    let mut description = Description { session: local.session >> 1, version: 1, ..Description::default() };
    if scenario.audio.is_some() {
        let mut media = section(MediaKind::Audio, AUDIO_MID, local, Direction::SendOnly);
        media.formats = vec![Format {
            payload_type: OPUS,
            name: "opus".into(),
            clock_rate: 48_000,
            channels: Some(2),
            parameters: "minptime=10;useinbandfec=1".into(),
            feedback: vec!["transport-cc".into(), "nack".into()],
        }];
        media.extensions = extensions(&[
            (EXTENSION_LEVEL, Extension::AudioLevel),
            (EXTENSION_TRANSPORT_CC, Extension::TransportCc),
            (EXTENSION_MID, Extension::Mid),
        ]);
        sent(&mut media, AUDIO_CID, &[ssrcs.audio]);
        description.media.push(media);
    }
    if let Some(video) = &scenario.video {
        let mut media = section(MediaKind::Video, VIDEO_MID, local, Direction::SendOnly);
        media.formats = vec![Format {
            payload_type: VP8,
            name: "VP8".into(),
            clock_rate: 90_000,
            feedback: ["transport-cc", "ccm fir", "nack", "nack pli"].map(str::to_owned).to_vec(),
            ..Format::default()
        }];
        media.extensions = extensions(&[
            (EXTENSION_TRANSPORT_CC, Extension::TransportCc),
            (EXTENSION_MID, Extension::Mid),
            (EXTENSION_RID, Extension::Rid),
        ]);
        let layers = video.rates_bps.len();
        if layers > 1 {
            // The SSRCs of layers are learnt from their RIDs.
            media.rids = LAYERS.iter().take(layers).map(|(rid, ..)| (*rid).to_owned()).collect();
            sent(&mut media, VIDEO_CID, &[]);
        } else {
            sent(&mut media, VIDEO_CID, &ssrcs.video[..1]);
        }
        description.media.push(media);
    }
    description.bundle = description.media.iter().map(|media| media.mid.clone()).collect();
    locate(&mut description, local);
    description.to_string()
}

/// What the server's answer accepts of our offer.
pub fn accepted(answer: &Description) -> Accepted {
    let section = |mid: &str, payload_type: u8| {
        answer.media.iter().find(|media| {
            let has_format = media.formats.iter().any(|format| format.payload_type == payload_type);
            media.mid == mid && media.port != 0 && media.direction.receives() && has_format
        })
    };
    let (audio, video) = (section(AUDIO_MID, OPUS), section(VIDEO_MID, VP8));
    let has = |media: Option<&Media>, extension: Extension| {
        media.is_some_and(|media| media.extensions.iter().any(|(_, uri)| uri == extension.uri()))
    };
    Accepted {
        audio: audio.is_some(),
        video: video.is_some(),
        transport_cc: has(audio.or(video), Extension::TransportCc),
        level: has(audio, Extension::AudioLevel),
    }
}

/// An answer to what the server offers to send.
pub struct Answer {
    pub sdp: String,
    pub streams: Vec<StreamInfo>,
    pub negotiated: Negotiated,
    /// There are data channels.
    pub data: bool,
}

/// Accepts everything, as far as it is Opus, VP8 and its retransmissions; where a section has none of these, all of it.
pub fn answer(offer: &Description, local: &Local, version: u64) -> Answer {
    let mut description = Description { session: local.session >> 1, version, ..Description::default() };
    let mut streams = Vec::new();
    let mut negotiated = Negotiated::default();
    let mut data = false;
    for offered in &offer.media {
        let mut media = section(offered.kind.clone(), &offered.mid, local, Direction::Inactive);
        media.protocol.clone_from(&offered.protocol);
        media.other_formats.clone_from(&offered.other_formats);
        let kind = match offered.kind {
            MediaKind::Audio => Some(Kind::Audio),
            MediaKind::Video => Some(Kind::Video),
            _ => None,
        };
        match kind {
            _ if offered.port == 0 => media.port = 0,
            Some(kind) => {
                media.formats = formats(offered);
                media.extensions = wanted(offered);
                if offered.direction.sends() {
                    media.direction = Direction::RecvOnly;
                    streams.extend(stream(kind, offered, &media));
                    negotiate(&media, &mut negotiated);
                }
            }
            None if offered.kind == MediaKind::Application => {
                (media.sctp_port, media.max_message_size) = (Some(5000), Some(65_535));
                media.rtcp_mux = false;
                data = true;
            }
            None => media.port = 0,
        }
        if media.port == 0 {
            media.formats.clone_from(&offered.formats);
        }
        description.media.push(media);
    }
    description.bundle = offer.bundle.iter().filter(|mid| is_used(&description, mid)).cloned().collect();
    locate(&mut description, local);
    Answer { sdp: description.to_string(), streams, negotiated, data }
}

fn is_used(description: &Description, mid: &str) -> bool {
    description.media.iter().any(|media| media.mid == *mid && media.port != 0)
}

fn section(kind: MediaKind, mid: &str, local: &Local, direction: Direction) -> Media {
    let mut media = Media::new(kind, mid.to_owned());
    media.direction = direction;
    media.ice = Some(local.ice.clone());
    media.fingerprint = Some(local.fingerprint);
    // We are the DTLS client always, so that the server is what it is with browsers.
    media.setup = Some(Setup::Active);
    media.rtcp_mux = true;
    media.rtcp_rsize = true;
    media
}

/// Writes down our candidate, once: all sections share one transport.
fn locate(description: &mut Description, local: &Local) {
    if let Some(media) = description.media.iter_mut().find(|media| media.port != 0) {
        let (ip, port) = (local.address.ip(), local.address.port());
        media.candidates = vec![format!("1 1 udp 2130706431 {ip} {port} typ host")];
    }
}

fn sent(media: &mut Media, cid: &str, ssrcs: &[u32]) {
    media.msid = Some(("load".to_owned(), cid.to_owned()));
    media.cname = Some("load".to_owned());
    media.ssrcs = ssrcs.to_vec();
}

fn extensions(list: &[(u8, Extension)]) -> Vec<(u8, String)> {
    list.iter().map(|(id, extension)| (*id, extension.uri().to_owned())).collect()
}

/// Extensions that we read or that cost nothing: the transport-wide number, and those that servers tell streams apart by.
fn wanted(offered: &Media) -> Vec<(u8, String)> {
    let wanted = [Extension::Mid, Extension::TransportCc, Extension::AbsSendTime, Extension::AudioLevel];
    let is_wanted = |uri: &String| wanted.iter().any(|extension| extension.uri() == uri);
    offered.extensions.iter().filter(|(_, uri)| is_wanted(uri)).cloned().collect()
}

fn formats(offered: &Media) -> Vec<Format> {
    let is_ours = |format: &&Format| ["opus", "VP8"].iter().any(|name| format.name.eq_ignore_ascii_case(name));
    let mut kept: Vec<Format> = offered.formats.iter().filter(is_ours).cloned().collect();
    if kept.is_empty() {
        return offered.formats.clone();
    }
    let repairs = |format: &&Format| {
        let repaired = format.parameter("apt").and_then(|apt| apt.parse().ok());
        format.name.eq_ignore_ascii_case("rtx") && kept.iter().any(|kept| Some(kept.payload_type) == repaired)
    };
    let rtx: Vec<Format> = offered.formats.iter().filter(repairs).cloned().collect();
    kept.extend(rtx);
    kept
}

fn stream(kind: Kind, offered: &Media, accepted: &Media) -> Option<StreamInfo> {
    let ssrc = *offered.ssrcs.first()?;
    let clock_hz = accepted.formats.first().map_or(90_000, |format| format.clock_rate);
    Some(StreamInfo { kind, ssrc, rtx_ssrc: offered.rtx_of(ssrc), clock_hz })
}

fn negotiate(media: &Media, negotiated: &mut Negotiated) {
    let id = media.extensions.iter().find(|(_, uri)| uri == Extension::TransportCc.uri()).map(|(id, _)| *id);
    let has = |feedback: &str| media.formats.iter().any(|format| format.has_feedback(feedback));
    if has("transport-cc") {
        negotiated.transport_cc = negotiated.transport_cc.or(id);
    }
    negotiated.remb |= has("goog-remb");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn local() -> Local {
        Local {
            ice: IceCredentials { ufrag: "abcd".into(), pwd: "abcdefghijklmnopqrstuv".into() },
            fingerprint: Fingerprint { sha256: [7; 32] },
            address: "127.0.0.1:4000".parse().unwrap(),
            session: 1,
        }
    }

    #[test]
    fn our_offer_says_what_the_scenario_publishes() {
        let check = |settings: Settings, kinds: &[MediaKind], rids: &[&str]| {
            let sdp = offer(&settings.resolve().unwrap(), &local(), &Ssrcs { audio: 1, video: [2, 3, 4] });
            let Offered { description, remote } = read(&sdp).unwrap();
            assert_eq!(description.media.iter().map(|media| media.kind.clone()).collect::<Vec<_>>(), kinds);
            assert_eq!(description.media.last().unwrap().rids, rids);
            assert_eq!(remote.candidates, [local().address]);
        };
        check(Settings::default(), &[MediaKind::Audio, MediaKind::Video], &["q", "h", "f"]);
        check(Settings { audio: Some(false), layers: Some(1), ..Settings::default() }, &[MediaKind::Video], &[]);
        check(Settings { video: Some(false), ..Settings::default() }, &[MediaKind::Audio], &[]);
    }

    #[test]
    fn candidates() {
        let check =
            |line: &str, want: Option<&str>| assert_eq!(candidate(line), want.map(|a| a.parse().unwrap()), "{line}");
        check("1 1 udp 2130706431 192.0.2.7 7882 typ host", Some("192.0.2.7:7882"));
        check("1 1 UDP 2130706431 2001:db8::7 7882 typ host ufrag x", Some("[2001:db8::7]:7882"));
        check("1 2 udp 2130706431 192.0.2.7 7882 typ host", None);
        check("1 1 tcp 2130706431 192.0.2.7 7881 typ host tcptype passive", None);
        check("1 1 udp 1 0f0e.local 7881 typ host", None);
        check("", None);
    }

    #[test]
    fn everything_offered_is_answered_in_its_order() {
        let offered = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2 3\r\n\
            m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:5000\r\n\
            a=ice-ufrag:wxyz\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:actpass\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\na=mid:1\r\na=sendonly\r\na=rtpmap:63 red/48000/2\r\n\
            a=rtpmap:111 opus/48000/2\r\na=ssrc:5 cname:a\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\na=mid:2\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n\
            a=rtcp-fb:96 transport-cc\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
            a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=ssrc-group:FID 6 7\r\na=ssrc:6 cname:a\r\na=ssrc:7 cname:a\r\n\
            a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=inactive\r\na=rtpmap:96 VP8/90000\r\n\
            m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:4\r\na=inactive\r\n";
        let answer = answer(&Description::parse(offered).unwrap(), &local(), 1);
        let video = StreamInfo { kind: Kind::Video, ssrc: 6, rtx_ssrc: Some(7), clock_hz: 90_000 };
        let audio = StreamInfo { kind: Kind::Audio, ssrc: 5, rtx_ssrc: None, clock_hz: 48_000 };
        assert_eq!(answer.streams, [audio, video]);
        assert_eq!(answer.negotiated, Negotiated { transport_cc: Some(3), remb: false });
        assert!(answer.data);
        let written = Description::parse(&answer.sdp).unwrap();
        let types = |i: usize| written.media[i].formats.iter().map(|f| f.payload_type).collect::<Vec<_>>();
        assert_eq!((types(1), types(2)), (vec![111], vec![96, 97]));
        assert_eq!(written.bundle, ["0", "1", "2", "3"]);
        assert_eq!((written.media[3].direction, written.media[4].port), (Direction::Inactive, 0));
    }
}
