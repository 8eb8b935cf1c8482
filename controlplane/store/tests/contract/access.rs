//! Who may use a store.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sluice_servers::{Server, Tls};
use sluice_store::{OpenError, Settings, open};

use crate::bed::{Bed, IDENTITY, Kind, calm, get, put, put_session};

pub async fn is_for_those_who_know_the_password(bed: Bed) {
    let server = bed.own_server().await;
    let address = server.address();
    if bed.kind == Kind::Etcd {
        let mut root = etcd_client::Client::connect([address.to_string()], None).await.unwrap();
        root.user_add("root", "p@ss:word", None).await.unwrap();
        root.role_add("root").await.unwrap();
        root.user_grant_role("root", "root").await.unwrap();
        root.auth_enable().await.unwrap();
    }
    let url = |user: &str| bed.url(Some(address)).replace("://", &format!("://{user}"));
    let known = url("root:p%40ss%3Aword@");
    let store = open(&known, &bed.cluster, IDENTITY, calm()).await.unwrap();
    put(&*store, "a", "secret").await;
    put_session(&*store, "n").await;
    assert_eq!(get(&*store, "a").await.map(|(value, _)| value), Some("secret".into()));
    for stranger in ["", "root:guessed@"] {
        let error = open(&url(stranger), &bed.cluster, IDENTITY, calm()).await.err().unwrap();
        assert!(matches!(error, OpenError::Refused(_)), "{error}");
        assert!(!error.to_string().contains("guessed"), "{error}");
    }
    // In ZooKeeper each cluster has its own user, below one folder.
    if bed.kind == Kind::ZooKeeper {
        open(&url("other:user@"), "other", IDENTITY, calm()).await.unwrap();
    }
}

/// Certificates of an authority of the test's own, below `folder`.
fn certificates(folder: &Path) -> Tls {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    Tls {
        ca: file("ca.pem", authority.pem()),
        cert: file("cert.pem", leaf.pem()),
        key: file("key.pem", key.serialize_pem()),
    }
}

pub async fn is_by_certificate(bed: Bed) {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path());
    let server = Server::start_etcd_tls(tls.clone()).await;
    let address = server.address();
    let (ca, cert, key) = (tls.ca.display(), tls.cert.display(), tls.key.display());
    let own = format!("etcds://{address}?ca={ca}&cert={cert}&key={key}");
    let store = open(&own, &bed.cluster, IDENTITY, calm()).await.unwrap();
    put(&*store, "a", "sealed").await;
    assert_eq!(get(&*store, "a").await.map(|(value, _)| value), Some("sealed".into()));

    // Without a certificate of one's own, against the system's authorities, and without TLS.
    let brief = || Settings { opening: std::time::Duration::from_secs(1), ..calm() };
    for url in [
        format!("etcds://{address}?ca={ca}"),
        format!("etcds://{address}?cert={cert}&key={key}"),
        format!("etcd://{address}"),
    ] {
        assert!(open(&url, &bed.cluster, IDENTITY, brief()).await.is_err(), "{url}");
    }
    let missing = format!("etcds://{address}?ca=/nowhere/ca.pem");
    let error = open(&missing, &bed.cluster, IDENTITY, brief()).await.err().unwrap();
    assert!(matches!(&error, OpenError::Address { reason, .. } if reason.contains("/nowhere/ca.pem")), "{error}");
}
