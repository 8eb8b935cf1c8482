//! Parsers meet anything without panic, and what is written is read back.

use proptest::{collection::vec, prelude::*, sample::Index};
use sluice_signal::{
    ConnectParams, Publisher, Quirks, candidates, frame,
    sdp::{BYTES_MAX, Description, Format, LIST_MAX, MEDIA_MAX, SdpError},
};

use crate::support::{credentials, data, node};

const CAPTURED: [&str; 6] = [
    "chromium-simulcast",
    "chromium-screenshare",
    "chromium-stopped",
    "chromium-answer-unsupported",
    "chromium-answer-recycled",
    "firefox-simulcast",
];

#[test]
fn what_is_written_is_read_back() {
    for name in CAPTURED {
        let mut once = Description::parse(&data(name)).unwrap();
        for media in &mut once.media {
            // Static payload types have no rtpmap, and without it nothing else is written.
            for format in media.formats.iter_mut().filter(|format| format.name.is_empty()) {
                *format = Format { payload_type: format.payload_type, ..Default::default() };
            }
            media.other_formats.clear();
        }
        let mut twice = Description::parse(&once.to_string()).unwrap();
        twice.media.iter_mut().for_each(|media| media.other_formats.clear());
        assert_eq!(twice, once, "{name}");
    }
}

#[test]
fn lists_are_bounded() {
    let head = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
    let check = |line: &dyn Fn(usize) -> String| {
        let many = |n| (0..n).fold(head.to_owned(), |sdp, i| sdp + &line(i) + "\r\n");
        assert!(Description::parse(&many(LIST_MAX)).is_ok(), "{}", line(0));
        assert!(matches!(Description::parse(&many(LIST_MAX + 1)), Err(SdpError::TooMany { .. })), "{}", line(0));
    };
    check(&|i| format!("a=extmap:{} urn:x", i % 14 + 1));
    check(&|i| format!("a=ssrc:{i} cname:x"));
    check(&|i| format!("a=ssrc-group:FID {i} {i}"));
    check(&|_| "a=rtcp-fb:96 nack".to_owned());
    check(&|i| format!("a=simulcast:send r{i}"));
    let media = |n: usize| (0..n).fold("v=0\n".to_owned(), |sdp, i| sdp + &format!("m=audio 9 X 0\na=mid:{i}\n"));
    assert_eq!(Description::parse(&media(MEDIA_MAX)).unwrap().media.len(), MEDIA_MAX);
    assert_eq!(Description::parse(&media(MEDIA_MAX + 1)), Err(SdpError::TooManyMedia));
    assert_eq!(Description::parse(&"x".repeat(BYTES_MAX + 1)), Err(SdpError::TooLong(BYTES_MAX + 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_never_panics(text in "\\PC{0,300}", bytes in vec(any::<u8>(), 0..300)) {
        let _ = Description::parse(&text);
        let _ = Description::parse(&format!("v=0\n{text}"));
        let _ = ConnectParams::parse(&text);
        let _ = candidates::parse(&text);
        let _ = candidates::parse(&format!(r#"{{"candidate":"candidate:{text}"}}"#));
        let _ = frame::decode_text(&text);
        let _ = frame::decode_binary(&bytes);
    }

    /// Lines of real descriptions, mixed, cut and repeated: an offer made of them is answered or refused, and every answer
    /// can be read and has the m-lines of its offer.
    #[test]
    fn mixed_lines_are_answered_or_refused(
        name in 0..CAPTURED.len(),
        edits in vec((any::<Index>(), any::<Index>(), 0..4, any::<char>()), 0..6),
    ) {
        let sdp = data(CAPTURED[name]);
        let mut lines: Vec<String> = sdp.lines().map(str::to_owned).collect();
        for (at, from, how, c) in edits {
            let (at, from) = (at.index(lines.len()), from.index(lines.len()));
            match how {
                0 => { lines.remove(at); }
                1 => { let line = lines[from].clone(); lines.insert(at, line); }
                2 => lines.swap(at, from),
                _ => {
                    let position = from % (lines[at].len() + 1);
                    if lines[at].is_char_boundary(position) {
                        lines[at].insert(position, c);
                    }
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        let sdp = lines.join("\r\n");
        let mut publisher = Publisher::new(credentials(1), 1, Quirks::default());
        if let Ok(answered) = publisher.on_offer(1, &sdp, &[], &node(), credentials(2)) {
            let (offer, answer) = (Description::parse(&sdp).unwrap(), Description::parse(&answered.sdp).unwrap());
            let mids = |description: &Description| description.media.iter().map(|m| m.mid.clone()).collect::<Vec<_>>();
            prop_assert_eq!(mids(&offer), mids(&answer));
            for media in answered.media.iter().filter(|media| media.active) {
                prop_assert!(!media.payloads.is_empty() && (1..=3).contains(&media.encodings.len()));
            }
        }
    }
}
