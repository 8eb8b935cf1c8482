//! mediasoup as an SFU for one load: one publisher of VP8 in plain RTP, many receivers in SRTP, all on plain transports, so
//! that there is neither ICE nor DTLS nor bandwidth estimation to pay for. That is its easy case.
//!
//! `mediasoup-peer LISTEN PUBLISHER_PORT TO FIRST_PORT RECEIVERS aes128-gcm|aes256-gcm|aes-cm`; prints `ready` when the
//! publisher may send, and runs until it is ended.

#![forbid(unsafe_code)]

use std::{env, io::Write, net::IpAddr, num::NonZeroU32};

use anyhow::Context;
use mediasoup::{prelude::*, types::srtp_parameters::SrtpParameters};

const PAYLOAD_TYPE: u8 = 96;
const SSRC: u32 = 0x5eed;

struct Options {
    listen: IpAddr,
    publisher_port: u16,
    to: IpAddr,
    first_port: u16,
    receivers: u16,
    suite: SrtpCryptoSuite,
    /// Key and salt of all receivers in base64: mediasoup makes its own, and never needs these, as nobody sends to it.
    key: &'static str,
}

impl Options {
    fn parse() -> anyhow::Result<Options> {
        let words: Vec<String> = env::args().skip(1).collect();
        let [listen, publisher_port, to, first_port, receivers, profile] = &words[..] else {
            anyhow::bail!("six arguments are wanted: LISTEN PUBLISHER_PORT TO FIRST_PORT RECEIVERS PROFILE")
        };
        let (suite, key) = match profile.as_str() {
            "aes128-gcm" => (SrtpCryptoSuite::AeadAes128Gcm, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw=="),
            "aes256-gcm" => {
                (SrtpCryptoSuite::AeadAes256Gcm, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKis=")
            }
            "aes-cm" => (SrtpCryptoSuite::AesCm128HmacSha180, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"),
            other => anyhow::bail!("there is no profile {other:?}"),
        };
        Ok(Options {
            listen: listen.parse()?,
            publisher_port: publisher_port.parse()?,
            to: to.parse()?,
            first_port: first_port.parse()?,
            receivers: receivers.parse()?,
            suite,
            key,
        })
    }

    fn listen_info(&self, port: Option<u16>) -> ListenInfo {
        ListenInfo {
            protocol: Protocol::Udp,
            ip: self.listen,
            announced_address: None,
            expose_internal_ip: false,
            port,
            port_range: None,
            flags: None,
            send_buffer_size: Some(4 << 20),
            recv_buffer_size: Some(4 << 20),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse()?;
    futures_lite::future::block_on(run(&options))
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let manager = WorkerManager::new();
    let worker = manager.create_worker(WorkerSettings::default()).await.context("a worker")?;
    let router = worker.create_router(RouterOptions::new(vec![capability()])).await.context("a router")?;

    let mut incoming = PlainTransportOptions::new(options.listen_info(Some(options.publisher_port)));
    incoming.comedia = true;
    let incoming = router.create_plain_transport(incoming).await.context("the publisher's transport")?;
    let producer = incoming.produce(ProducerOptions::new(MediaKind::Video, sent())).await.context("a producer")?;

    let capabilities = RtpCapabilities { codecs: vec![capability()], header_extensions: Vec::new() };
    // They live as long as they are held.
    let mut receivers = Vec::new();
    for n in 0..options.receivers {
        let mut outgoing = PlainTransportOptions::new(options.listen_info(None));
        outgoing.enable_srtp = true;
        outgoing.srtp_crypto_suite = options.suite;
        let outgoing = router.create_plain_transport(outgoing).await.context("a receiver's transport")?;
        let remote = PlainTransportRemoteParameters {
            ip: Some(options.to),
            port: Some(options.first_port + n),
            rtcp_port: None,
            srtp_parameters: Some(SrtpParameters { crypto_suite: options.suite, key_base64: options.key.into() }),
        };
        outgoing.connect(remote).await.context("a receiver's address")?;
        let consumer =
            outgoing.consume(ConsumerOptions::new(producer.id(), capabilities.clone())).await.context("a consumer")?;
        receivers.push((outgoing, consumer));
    }
    println!("ready");
    std::io::stdout().flush()?;
    futures_lite::future::pending::<()>().await;
    Ok(())
}

fn capability() -> RtpCodecCapability {
    RtpCodecCapability::Video {
        mime_type: MimeTypeVideo::Vp8,
        preferred_payload_type: Some(PAYLOAD_TYPE),
        clock_rate: NonZeroU32::new(90_000).expect("not zero"),
        parameters: RtpCodecParametersParameters::default(),
        rtcp_feedback: Vec::new(),
    }
}

/// What the publisher sends.
fn sent() -> RtpParameters {
    RtpParameters {
        codecs: vec![RtpCodecParameters::Video {
            mime_type: MimeTypeVideo::Vp8,
            payload_type: PAYLOAD_TYPE,
            clock_rate: NonZeroU32::new(90_000).expect("not zero"),
            parameters: RtpCodecParametersParameters::default(),
            rtcp_feedback: Vec::new(),
        }],
        encodings: vec![RtpEncodingParameters { ssrc: Some(SSRC), ..RtpEncodingParameters::default() }],
        ..RtpParameters::default()
    }
}
