//! A control that does what the test says, and clients that are little more than a socket.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod call;
pub mod person;

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sluice_messages::{
    CallId, Data, Down, Entry, Event, ExtensionMap, Fingerprint, Hello, Ice, IceCredentials, Participant, Transport,
    TransportId, Up, decode, encode,
};
use sluice_node::{BackendPreference, Credential, LinkConfig, Node, NodeConfig};
use sluice_wire::stun::{self, Role, TransactionId};

/// Longest a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority and what it signed.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// A certificate and its key in PEM.
pub struct Signed {
    pub certificate: rcgen::Certificate,
    pub key: rcgen::KeyPair,
}

impl Authority {
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    pub fn sign(&self, name: &str) -> Signed {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        Signed { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }
}

/// The control side of the link.
pub struct Control {
    endpoint: Endpoint,
}

/// One node's link.
pub struct Link {
    _connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Control {
    /// Listens on loopback; port 0 takes any.
    pub fn listen(authority: &Authority, port: u16) -> Control {
        let signed = authority.sign("control.sluice");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signed.key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![CertificateDer::from(signed.certificate.der().to_vec())], key)
            .unwrap();
        tls.alpn_protocols = vec![b"sluice/1".to_vec()];
        let quic = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(quic));
        let start = Instant::now();
        loop {
            match Endpoint::server(config.clone(), (Ipv4Addr::LOCALHOST, port).into()) {
                Ok(endpoint) => return Control { endpoint },
                // The one before still says goodbye.
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn port(&self) -> u16 {
        self.endpoint.local_addr().unwrap().port()
    }

    /// The next node that gets through.
    pub async fn accept(&self) -> (Link, Hello) {
        patiently(async {
            let connection = self.endpoint.accept().await.unwrap().await.unwrap();
            let (send, receive) = connection.accept_bi().await.unwrap();
            let mut link = Link { _connection: connection, send, receive };
            match link.hear().await {
                Up::Hello(hello) => (link, hello),
                other => panic!("{other:?} before Hello"),
            }
        })
        .await
    }

    /// The next connection's end, if it does not get through.
    pub async fn refused(&self) -> String {
        patiently(async {
            match self.endpoint.accept().await.unwrap().await {
                Err(error) => error.to_string(),
                Ok(connection) => match connection.accept_bi().await {
                    Err(error) => error.to_string(),
                    Ok(_) => panic!("a stream was opened"),
                },
            }
        })
        .await
    }

    /// As if the process died and its port were free again.
    pub async fn die(self, link: Link) {
        drop(link);
        self.endpoint.close(0u32.into(), b"gone");
        self.endpoint.wait_idle().await;
    }
}

impl Link {
    pub async fn say(&mut self, down: Down) {
        self.send.write_all(&encode(&down).unwrap()).await.unwrap();
    }

    pub async fn hear(&mut self) -> Up {
        patiently(async {
            let mut length = [0; 4];
            self.receive.read_exact(&mut length).await.unwrap();
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            self.receive.read_exact(&mut bytes).await.unwrap();
            decode(&bytes).unwrap()
        })
        .await
    }

    /// What comes next that is not an event.
    pub async fn answer(&mut self) -> Up {
        loop {
            match self.hear().await {
                Up::Event(_) => {}
                up => return up,
            }
        }
    }

    /// Waits for an event like this.
    pub async fn event<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        patiently(async {
            loop {
                if let Up::Event(event) = self.hear().await
                    && let Some(found) = wanted(&event)
                {
                    return found;
                }
            }
        })
        .await
    }

    /// Gives a node its first table.
    pub async fn snapshot(&mut self, epoch: u64, entries: Vec<Entry>) {
        self.say(Down::Snapshot { epoch, sequence: 0, entries }).await;
        assert_eq!(self.answer().await, Up::Applied { epoch, sequence: 0 });
    }
}

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A node on free loopback ports that dials `control`.
pub fn config(authority: &Authority, certificate: &Signed, control: u16, workers: usize) -> NodeConfig {
    let link = LinkConfig {
        control: vec![format!("127.0.0.1:{control}")],
        server_name: "control.sluice".into(),
        ca: Credential::Bytes(authority.certificate.pem().into_bytes()),
        certificate: Credential::Bytes(certificate.certificate.pem().into_bytes()),
        key: Credential::Bytes(certificate.key.serialize_pem().into_bytes()),
    };
    let mut config = NodeConfig::new("node-1", link);
    config.bind = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    config.workers = workers;
    config.pool_frames = 4096;
    config.backend = BackendPreference::Auto;
    config.forwarder.peers_max = 64;
    config.forwarder.tracks_max = 64;
    config.forwarder.subscriptions_max = 256;
    config.forwarder.histories_max = 64;
    config
}

/// A running node and the control it obeys.
pub async fn pair(workers: usize) -> (Node, Control, Link) {
    pair_on(BackendPreference::Auto, workers).await
}

/// The same with a choice of how datagrams travel.
pub async fn pair_on(backend: BackendPreference, workers: usize) -> (Node, Control, Link) {
    pair_with(workers, |config| config.backend = backend).await
}

/// Two workers, and a call goes to the second as soon as it has anybody on the first.
pub async fn pair_that_spreads() -> (Node, Control, Link) {
    pair_with(2, |config| config.spread = 1).await
}

/// The same with other changes of its settings.
pub async fn pair_with(workers: usize, change: impl FnOnce(&mut NodeConfig)) -> (Node, Control, Link) {
    let authority = Authority::new();
    let control = Control::listen(&authority, 0);
    let mut config = config(&authority, &authority.sign("node-1"), control.port(), workers);
    change(&mut config);
    let node = Node::start(config).unwrap();
    let (link, _) = control.accept().await;
    (node, control, link)
}

pub fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: format!("{name}ufrag"), pwd: format!("{name}password-of-22-characters") }
}

/// A transport of its own participant.
pub fn transport(id: u64, call: u64, fingerprint: Option<Fingerprint>, data: Option<Data>) -> Transport {
    Transport {
        id: TransportId(id),
        call: CallId(call),
        participant: Participant { sid: format!("PA_{id}"), identity: format!("person-{id}") },
        ice: Ice { local: credentials(&format!("local{id}")), remote: None, previous_local: None },
        fingerprint,
        receive_extensions: ExtensionMap::default(),
        send_extensions: ExtensionMap::default(),
        data,
    }
}

pub fn counter(node: &Node, name: &str) -> u64 {
    let counters = node.counters();
    counters.iter().find(|(known, _)| known == name).map(|(_, value)| *value).unwrap_or_else(|| {
        panic!("no counter {name} in {:?}", counters.iter().map(|(name, _)| name).collect::<Vec<_>>())
    })
}

/// Waits until a counter has at least this value; counters of the packet path are published a few times a second.
pub fn wait_for_counter(node: &Node, name: &str, value: u64) {
    let start = Instant::now();
    while counter(node, name) < value {
        assert!(start.elapsed() < PATIENCE, "{name} is {} and not {value}: {:?}", counter(node, name), node.counters());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long a client waits for an answer: on a busy machine threads get their turn late.
const ANSWER: Duration = Duration::from_secs(2);

/// A client's socket.
pub struct Client {
    pub socket: UdpSocket,
    node: SocketAddr,
}

impl Client {
    pub fn new(node: &Node) -> Client {
        Client::on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), node)
    }

    /// A client with this socket.
    pub fn on(socket: UdpSocket, node: &Node) -> Client {
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        Client { socket, node: node.bound()[0] }
    }

    pub fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.node).unwrap();
    }

    /// The next datagram, none if it does not come in time.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; 2048];
        let (length, from) = loop {
            match self.socket.recv_from(&mut bytes) {
                Ok(received) => break received,
                // Rings of the kernel interrupt the thread that made them.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        };
        assert_eq!(from, self.node);
        Some(bytes[..length].to_vec())
    }

    /// True if nothing comes for a while.
    pub fn is_left_alone(&self) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        self.receive().is_none()
    }

    /// A check that is expected to fail, without much patience.
    pub fn check_quickly(&self, transport: &Transport) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let result = self.check(transport);
        self.socket.set_read_timeout(Some(ANSWER)).unwrap();
        result
    }

    /// Sends a check as the client of this transport would; true if the right answer comes.
    pub fn check(&self, transport: &Transport) -> bool {
        let id = TransactionId(rand::random());
        let mut request = [0; stun::MAX_WRITTEN_BYTES];
        let local = &transport.ice.local;
        let username = format!("{}:remote", local.ufrag);
        let fields = stun::Request {
            transaction_id: id,
            username: username.as_bytes(),
            password: local.pwd.as_bytes(),
            priority: 1,
            use_candidate: true,
            role: Role::Controlling(1),
        };
        let length = stun::write_request(&mut request, &fields).unwrap();
        self.send(&request[..length]);
        loop {
            let Some(response) = self.receive() else { return false };
            assert!(response.len() <= length + 12, "an answer is about as long as the question");
            let message = stun::Message::parse(&response).unwrap();
            // A late answer to an earlier check is no answer to this one.
            if message.transaction_id == id {
                return message.class == stun::Class::Success
                    && message.verify_integrity(local.pwd.as_bytes())
                    && message.mapped_address == Some(self.socket.local_addr().unwrap());
            }
        }
    }
}

/// A header of RTP and nothing that any key could open.
pub const RTP: [u8; 40] = {
    let mut packet = [7; 40];
    packet[0] = 0x80;
    packet[1] = 96;
    packet
};

impl Link {
    /// A message that is none.
    pub async fn nonsense(&mut self) {
        self.send.write_all(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    }
}
