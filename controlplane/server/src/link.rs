//! The link to the nodes: a QUIC listener with mutual TLS. Each node opens one stream; what travels on it is in
//! [`sluice_messages::link`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Endpoint, Incoming, RecvStream, SendStream, VarInt};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use sluice_messages::{Down, Hello, Up, VERSION, decode, encode, link::MESSAGE_BYTES_MAX};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, timeout},
};

use crate::certs::Paths;

/// Protocol name in the TLS handshake.
pub const ALPN: &[u8] = b"sluice/1";

/// Messages waiting for one node. Raising it costs memory behind a node that does not read, lowering it cuts the link
/// (and so costs a snapshot) at smaller bursts.
const DOWN_QUEUE_MAX: usize = 8192;

/// Silence after which QUIC gives a link up, whatever [`Watch`] says.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How nodes are watched.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// A node that says nothing for this long is taken for dead. Lowering it shortens the silence after a death; a node, or
    /// control, that is starved of CPU for as long loses its calls to others.
    pub silence: Duration,
}

impl Watch {
    /// Detects in 400 ms: for several nodes.
    pub const FAST: Watch = Watch { silence: Duration::from_millis(400) };
    /// For a node whose calls have nowhere to go.
    pub const CALM: Watch = Watch { silence: Duration::from_secs(5) };

    /// A node is asked for a sign of life four times before it is given up.
    fn period(self) -> Duration {
        self.silence / 4
    }

    /// Over a long way a lost packet takes longer to be repeated.
    fn silence(self, rtt: Duration) -> Duration {
        self.silence.max(self.period() + 4 * rtt)
    }
}

/// A link that has not said hello by then is closed.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Numbers links, so that what a replaced link still says is not taken for the new one's.
pub type LinkId = u64;

/// What happens on links.
#[derive(Debug)]
pub enum LinkEvent {
    /// A node has said hello. Messages for it go into `down`; dropping that closes the link.
    Up { link: LinkId, hello: Hello, down: mpsc::Sender<Down> },
    /// A node said something.
    Message { link: LinkId, up: Up },
    /// A link is gone.
    Down { link: LinkId },
}

/// The link cannot be listened on. The operator's fault: the certificates or the address.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// a certificate or key is not usable
    #[error("{path}: {error}", path = path.display())]
    Pem { path: std::path::PathBuf, error: rustls::pki_types::pem::Error },
    /// the certificates do not fit together
    #[error("the link's certificates cannot be used: {0}")]
    Tls(String),
    /// the address cannot be bound
    #[error("the link cannot listen on {address}/udp: {error}")]
    Bind { address: SocketAddr, error: std::io::Error },
}

/// Listens for nodes that show a certificate of the same authority. Must be called inside a tokio runtime.
pub fn listen(address: SocketAddr, paths: &Paths) -> Result<Endpoint, LinkStartError> {
    let pem = |path: &std::path::Path| {
        let path = path.to_owned();
        move |error| LinkStartError::Pem { path, error }
    };
    let tls = |error: &dyn std::fmt::Display| LinkStartError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(&paths.authority).map_err(pem(&paths.authority))? {
        roots.add(root.map_err(pem(&paths.authority))?).map_err(|e| tls(&e))?;
    }
    let chain = CertificateDer::pem_file_iter(&paths.certificate)
        .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
        .map_err(pem(&paths.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&paths.key).map_err(pem(&paths.key))?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map_err(|e| tls(&e))?;
    let mut crypto = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| tls(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| tls(&e))?;
    crypto.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(crypto).map_err(|e| tls(&e))?;
    let mut settings = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("five seconds fit a QUIC timeout")))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    settings.transport_config(Arc::new(transport));
    Endpoint::server(settings, address).map_err(|error| LinkStartError::Bind { address, error })
}

/// Accepts links until the endpoint closes.
pub async fn serve(endpoint: Endpoint, watch: Watch, events: mpsc::Sender<LinkEvent>) {
    let mut next = 0;
    while let Some(incoming) = endpoint.accept().await {
        next += 1;
        tokio::spawn(link(incoming, next, watch, events.clone()));
    }
}

/// One link from handshake to end.
async fn link(incoming: Incoming, link: LinkId, watch: Watch, events: mpsc::Sender<LinkEvent>) {
    let peer = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            metrics::counter!("sluice_links_refused_total").increment(1);
            tracing::warn!(%peer, %error, "a node was refused");
            return;
        }
    };
    let Ok(Ok((mut send, mut receive))) = timeout(HELLO_TIMEOUT, connection.accept_bi()).await else {
        connection.close(VarInt::from_u32(1), b"no stream was opened");
        return;
    };
    let hello = match timeout(HELLO_TIMEOUT, read(&mut receive, HELLO_TIMEOUT)).await {
        Ok(Some(Up::Hello(hello))) if hello.version == VERSION => hello,
        Ok(Some(Up::Hello(hello))) => {
            tracing::warn!(%peer, theirs = hello.version, ours = VERSION, "a node of another version was refused");
            connection.close(VarInt::from_u32(2), b"another version of the link's protocol");
            return;
        }
        _ => {
            connection.close(VarInt::from_u32(1), b"hello was expected");
            return;
        }
    };
    let (down, mut queue) = mpsc::channel(DOWN_QUEUE_MAX);
    if events.send(LinkEvent::Up { link, hello, down }).await.is_err() {
        return;
    }
    let up = async {
        while let Some(up) = read(&mut receive, watch.silence(connection.rtt())).await {
            if events.send(LinkEvent::Message { link, up }).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut pings = tokio::time::interval(watch.period());
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut nonce = 0;
        loop {
            let message = tokio::select! {
                message = queue.recv() => message,
                _ = pings.tick() => {
                    nonce += 1;
                    Some(Down::Ping { nonce, period_ms: watch.period().as_millis() as u32 })
                }
            };
            let Some(message) = message else { return };
            if !write(&mut send, &message).await {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    connection.close(VarInt::from_u32(0), b"");
    // Fails only while the server stops.
    let _ = events.send(LinkEvent::Down { link }).await;
}

/// The next message; none when the stream ended, nothing came for `silence`, or the peer is broken.
async fn read(stream: &mut RecvStream, silence: Duration) -> Option<Up> {
    let mut length = [0; 4];
    fill(stream, &mut length, silence).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; length];
    fill(stream, &mut bytes, silence).await?;
    decode(&bytes).inspect_err(|error| tracing::warn!(%error, "a node's message cannot be read")).ok()
}

/// Reads exactly. Silence counts from the last byte: a long message is a sign of life all the time.
async fn fill(stream: &mut RecvStream, mut bytes: &mut [u8], silence: Duration) -> Option<()> {
    while !bytes.is_empty() {
        let read = match timeout(silence, stream.read(bytes)).await {
            Ok(read) => read.ok()??,
            Err(_) => {
                metrics::counter!("sluice_links_silent_total").increment(1);
                tracing::warn!(silence_ms = silence.as_millis() as u64, "a node says nothing");
                return None;
            }
        };
        bytes = &mut bytes[read..];
    }
    Some(())
}

async fn write(stream: &mut SendStream, message: &Down) -> bool {
    match encode(message) {
        Ok(bytes) => stream.write_all(&bytes).await.is_ok(),
        Err(error) => {
            tracing::error!(%error, "a message for a node cannot be written");
            false
        }
    }
}
