//! Addresses of stores: `sled:<folder>`, `zookeeper://…`, `etcd://…`, `etcds://…`.

use std::{fmt, path::PathBuf};

use percent_encoding::percent_decode_str;

use crate::OpenError;

/// Where a store is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// a folder that one process at a time uses
    Sled(PathBuf),
    /// servers of one ZooKeeper ensemble
    ZooKeeper(Servers),
    /// members of one etcd cluster, and their certificates where the connection is TLS
    Etcd(Servers, Option<Tls>),
}

/// Servers that hold the same store, at least one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Servers {
    /// `host:port`
    pub(crate) hosts: Vec<String>,
    /// name and password
    pub(crate) user: Option<(String, String)>,
}

/// Files of certificates in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// who may sign the server's certificate; the system's authorities where it is not given
    pub(crate) ca: Option<PathBuf>,
    /// our own certificate and its key
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

const ZOOKEEPER_PORT: u16 = 2181;
const ETCD_PORT: u16 = 2379;

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Address, OpenError> {
        parse(url).map_err(|reason| OpenError::Address { url: without_password(url), reason })
    }
}

fn parse(url: &str) -> Result<Address, String> {
    if let Some(folder) = url.strip_prefix("sled:") {
        return match folder {
            "" => Err("name a folder, as in sled:/var/lib/sluice/store".into()),
            _ => Ok(Address::Sled(folder.into())),
        };
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("it begins with sled:, zookeeper://, etcd:// or etcds://".into());
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let tls = match (scheme, query) {
        ("etcds", query) => Some(tls(query.unwrap_or_default())?),
        (_, Some(_)) => return Err("only etcds:// has options after a question mark".into()),
        (_, None) => None,
    };
    match scheme {
        "zookeeper" => Ok(Address::ZooKeeper(servers(rest, ZOOKEEPER_PORT)?)),
        "etcd" | "etcds" => Ok(Address::Etcd(servers(rest, ETCD_PORT)?, tls)),
        other => Err(format!("{other} is no kind of store; there are sled, zookeeper, etcd and etcds")),
    }
}

fn servers(text: &str, port: u16) -> Result<Servers, String> {
    let (user, hosts) = text.rsplit_once('@').map_or((None, text), |(user, hosts)| (Some(user), hosts));
    let plain = |text| {
        percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| "name or password is not UTF-8".to_owned())
    };
    let user = match user.map(|user| user.split_once(':')) {
        None => None,
        Some(Some((name, password))) if !name.is_empty() => Some((plain(name)?, plain(password)?)),
        Some(_) => return Err("before the @ stand a name and a password with a colon between".into()),
    };
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    let hosts = hosts.split(',').map(|host| with_port(host, port)).collect::<Result<Vec<_>, _>>()?;
    Ok(Servers { hosts, user })
}

fn with_port(host: &str, port: u16) -> Result<String, String> {
    // The colons of an IPv6 address stand in brackets.
    let bracket = host.rfind(']').map_or(0, |at| at + 1);
    let (name, given) = match host[bracket..].rsplit_once(':') {
        Some((name, given)) => (&host[..bracket + name.len()], Some(given)),
        None => (host, None),
    };
    if name.is_empty()
        || name.contains(|sign: char| sign.is_whitespace() || sign == '/')
        || name[bracket..].contains(':')
    {
        return Err(format!("{host:?} is no host (several are separated by commas, IPv6 addresses stand in brackets)"));
    }
    match given.map(str::parse::<u16>) {
        None => Ok(format!("{name}:{port}")),
        Some(Ok(given)) if given != 0 => Ok(format!("{name}:{given}")),
        Some(_) => Err(format!("{host:?} has no port from 1 to 65535")),
    }
}

fn tls(query: &str) -> Result<Tls, String> {
    let (mut ca, mut cert, mut key) = (None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match name {
            "ca" => &mut ca,
            "cert" => &mut cert,
            "key" => &mut key,
            other => return Err(format!("{other} is no option; there are ca, cert and key, each a file")),
        };
        let path = percent_decode_str(value).decode_utf8().map_err(|_| format!("the file of {name} is not UTF-8"))?;
        if path.is_empty() {
            return Err(format!("{name} names no file"));
        }
        *place = Some(PathBuf::from(path.into_owned()));
    }
    match (cert, key) {
        (None, None) => Ok(Tls { ca, own: None }),
        (Some(cert), Some(key)) => Ok(Tls { ca, own: Some((cert, key)) }),
        _ => Err("cert and key go together".into()),
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
        _ => url.into(),
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.hosts.join(","))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Sled(folder) => write!(formatter, "sled:{}", folder.display()),
            Address::ZooKeeper(servers) => write!(formatter, "zookeeper://{servers:?}"),
            Address::Etcd(servers, None) => write!(formatter, "etcd://{servers:?}"),
            Address::Etcd(servers, Some(_)) => write!(formatter, "etcds://{servers:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let servers = |hosts: &[&str], user: Option<(&str, &str)>| Servers {
            hosts: hosts.iter().map(|host| (*host).into()).collect(),
            user: user.map(|(name, password)| (name.into(), password.into())),
        };
        let check = |url: &str, expected: Address| assert!(Address::parse(url).unwrap() == expected, "{url}");
        check("sled:/var/lib/x", Address::Sled("/var/lib/x".into()));
        check("sled:relative", Address::Sled("relative".into()));
        check("zookeeper://a,b:99", Address::ZooKeeper(servers(&["a:2181", "b:99"], None)));
        check("zookeeper://u:p%40:q@a/", Address::ZooKeeper(servers(&["a:2181"], Some(("u", "p@:q")))));
        check("etcd://[::1]:5,[fe80::2]", Address::Etcd(servers(&["[::1]:5", "[fe80::2]:2379"], None), None));
        let tls = Tls { ca: Some("/a b".into()), own: Some(("c".into(), "k".into())) };
        check("etcds://e?ca=/a%20b&cert=c&key=k", Address::Etcd(servers(&["e:2379"], None), Some(tls)));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for url in [
            "",
            "sled:",
            "redis://a",
            "zookeeper://",
            "zookeeper://a,,b",
            "etcd://a:0",
            "etcd://a:99999",
            "etcd://::1",
            "etcd://a:x",
            "zookeeper://secret@a",
            "etcd://a?ca=x",
            "etcds://a?cert=x",
            "etcds://a?x=y",
            "etcds://a?ca=",
            "zookeeper:a",
            "etcd://u:secret@a:0",
            "zookeeper://a/secret",
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains("is not the address of a store"), "{error}");
            assert!(!url.contains('@') || !error.contains("secret"), "{error}");
        }
    }
}
