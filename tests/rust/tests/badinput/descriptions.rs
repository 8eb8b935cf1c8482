//! Session descriptions that cannot be used.

use livekit_protocol::{
    AddTrackRequest, DisconnectReason, SessionDescription, TrackSource, TrackType, leave_request::Action,
    signal_request::Message as Request, signal_response::Message as Response,
};
use serde_json::json;
use sluice_tests::{
    client::{Client, Options},
    process::{Server, token},
    signal::{QUERY, Signal},
};

/// An offer with `media` as its m-lines, bundled as named.
fn offer(mids: &[String], media: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=ice-ufrag:abcd1234\r\n\
         a=ice-pwd:0123456789abcdef01234567\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n{media}",
        mids.join(" "),
        ["AB"; 32].join(":")
    )
}

fn audio(mid: &str, codec: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=rtcp-mux\r\na=sendonly\r\n\
         a=msid:s mic\r\na=rtpmap:96 {codec}\r\n"
    )
}

#[tokio::test]
async fn a_description_that_cannot_be_used_is_refused_with_its_reason() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "descriptions", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "descriptions", "bob", Options::default()).await?;
    bob.until("ann's media", |seen| !seen.videos.is_empty()).await?;

    let mids = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
    let thousand: String = mids(1000).iter().map(|mid| audio(mid, "opus/48000/2")).collect();
    let twice = audio("0", "opus/48000/2").repeat(2);
    let bad = [
        ("no usable codec", offer(&mids(1), &audio("0", "g729/8000")), "no codec that can be forwarded"),
        ("1,000 m-lines", offer(&mids(1000), &thousand), "m-lines"),
        ("a duplicated mid", offer(&mids(1), &twice), "used twice"),
        ("nothing", String::new(), "empty"),
        ("garbage", "certainly not a description\r\n".into(), "cannot be read"),
        ("binary garbage", "v=0\r\nm=\u{1}\u{2}\r\n".into(), ""),
        ("no m-line", offer(&[], ""), "no media section"),
        ("two megabytes less a bit", "a=x\r\n".repeat(400_000), "more than a description may have"),
        ("no fingerprint", offer(&mids(1), &audio("0", "opus/48000/2")).replace("a=fingerprint", "a=x"), "fingerprint"),
        (
            "no credentials",
            offer(&mids(1), &audio("0", "opus/48000/2")).replace("a=ice-ufrag", "a=x"),
            "ICE credentials",
        ),
    ];
    for (what, sdp, says) in bad {
        let mut signal = Signal::connect(server.http, &token("descriptions", "mallory", json!({})), QUERY).await?;
        let track = AddTrackRequest {
            cid: "mic".into(),
            r#type: TrackType::Audio as i32,
            source: TrackSource::Microphone as i32,
            ..Default::default()
        };
        signal.send(Request::AddTrack(track)).await?;
        let description = SessionDescription { r#type: "offer".into(), sdp, id: 1, ..Default::default() };
        signal.send(Request::Offer(description)).await?;
        let leave = signal
            .until(|message| match message {
                Response::Leave(leave) => Some(leave),
                Response::Answer(answer) => panic!("{what}: answered with {}", answer.sdp),
                _ => None,
            })
            .await?;
        assert_eq!((leave.reason(), leave.action()), (DisconnectReason::StateMismatch, Action::Reconnect), "{what}");
        let (code, reason) = signal.closed().await.map_err(|error| error.context(what))?;
        assert!(code == 1000 || code == 1008, "{what}: {code}");
        assert!(reason.contains(says) && reason.contains("offer"), "{what}: {reason:?} does not say {says:?}");
        // The operator reads it too.
        server.process.line("BadRequest")?;
    }
    for client in [&mut ann, &mut bob] {
        let seen = client.goes_on("media", 20).await?;
        assert_eq!((seen.breaks, seen.failed), (0, None), "others notice nothing");
    }
    server.healthy()?;
    Ok(())
}
