//! Query parameters of `/rtc` and `/rtc/validate` in their plain form.

use std::collections::BTreeMap;

use base64::{Engine as _, alphabet, engine};
use livekit_protocol::{ClientInfo, ReconnectReason, client_info};

/// Longest query in bytes; tokens and attributes are in it.
pub const QUERY_BYTES_MAX: usize = 64 << 10;

/// Oldest client protocol spoken. Older ones expect messages that are not sent any more.
pub const PROTOCOL_MIN: i32 = 13;

/// Most attributes a participant may bring with it.
pub const ATTRIBUTES_MAX: usize = 256;

/// What a client says when it connects.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ConnectParams {
    /// Token in the query; clients that send a header have none here.
    pub access_token: Option<String>,
    /// Subscribe to everything; absent means yes.
    pub auto_subscribe: bool,
    /// The client will say which sizes it shows: subscriptions start at low quality.
    pub adaptive_stream: bool,
    /// Subscribe to data tracks, where said.
    pub auto_subscribe_data_track: Option<bool>,
    /// The client understands StreamStateUpdate, where said.
    pub subscriber_allow_pause: Option<bool>,
    pub disable_ice_lite: bool,
    /// Publishing-only clients name the participant they publish for.
    pub publish: Option<String>,
    /// Attributes to set at once; need the permission to update own metadata.
    pub attributes: BTreeMap<String, String>,
    /// SDK, protocol, browser and so on.
    pub client: ClientInfo,
    /// It resumes a session.
    pub reconnect: Option<Reconnect>,
}

/// A resume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// `PA_…`; empty if the client did not say.
    pub sid: String,
    pub reason: ReconnectReason,
}

/// Parameters that are answered with 400 and this reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// the query has {0} bytes
    #[error("the query has {0} bytes; at most {QUERY_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// parameter `{0}` is not percent-encoded UTF-8
    #[error("parameter `{0}` is not percent-encoded UTF-8")]
    Encoding(String),
    /// parameter `{name}` has the value {value:?}
    #[error("parameter `{name}` has the value {value:?}, which is not {wanted}")]
    Value { name: &'static str, value: String, wanted: &'static str },
    /// protocol {0} is too old
    #[error("protocol {0} is too old: at least {PROTOCOL_MIN} is needed, please update the client SDK")]
    Protocol(i32),
    /// `join_request` is not supported
    #[error("`join_request` (single peer connection) is not supported; connect to /rtc with plain query parameters")]
    JoinRequest,
}

impl ConnectParams {
    /// Reads a query string (without `?`). Unknown parameters are ignored.
    pub fn parse(query: &str) -> Result<ConnectParams, ConnectError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(ConnectError::TooLong(query.len()));
        }
        let mut params = ConnectParams { auto_subscribe: true, ..Default::default() };
        let mut resume = Reconnect { sid: String::new(), reason: ReconnectReason::RrUnknown };
        let mut resumes = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| ConnectError::Encoding(name.chars().take(64).collect()))?;
            let client = &mut params.client;
            match name {
                "join_request" => return Err(ConnectError::JoinRequest),
                "access_token" => params.access_token = Some(value).filter(|token| !token.is_empty()),
                "auto_subscribe" => params.auto_subscribe = boolean("auto_subscribe", value)?.unwrap_or(true),
                "adaptive_stream" => params.adaptive_stream = boolean("adaptive_stream", value)?.unwrap_or(false),
                "auto_subscribe_data_track" => {
                    params.auto_subscribe_data_track = boolean("auto_subscribe_data_track", value)?;
                }
                "subscriber_allow_pause" => params.subscriber_allow_pause = boolean("subscriber_allow_pause", value)?,
                "disable_ice_lite" => params.disable_ice_lite = boolean("disable_ice_lite", value)?.unwrap_or(false),
                "publish" => params.publish = Some(value).filter(|identity| !identity.is_empty()),
                "attributes" => params.attributes = attributes(value)?,
                "reconnect" => resumes = boolean("reconnect", value)?.unwrap_or(false),
                "sid" => resume.sid = value,
                "reconnect_reason" => resume.reason = reason(value)?,
                "sdk" => client.sdk = sdk(&value) as i32,
                "version" => client.version = value,
                "protocol" => client.protocol = number("protocol", value)?,
                "client_protocol" => client.client_protocol = number("client_protocol", value)?,
                "os" => client.os = value,
                "os_version" => client.os_version = value,
                "device_model" => client.device_model = value,
                "browser" => client.browser = value,
                "browser_version" => client.browser_version = value,
                "network" => client.network = value,
                "capabilities" => client.capabilities = capabilities(&value),
                _ => {}
            }
        }
        if params.client.protocol < PROTOCOL_MIN {
            return Err(ConnectError::Protocol(params.client.protocol));
        }
        params.reconnect = resumes.then_some(resume);
        Ok(params)
    }
}

/// `application/x-www-form-urlencoded`: `+` is a space.
fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn boolean(name: &'static str, value: String) -> Result<Option<bool>, ConnectError> {
    match value.as_str() {
        "" => Ok(None),
        "1" | "true" => Ok(Some(true)),
        "0" | "false" => Ok(Some(false)),
        _ => Err(ConnectError::Value { name, value, wanted: "1, 0, true or false" }),
    }
}

fn number(name: &'static str, value: String) -> Result<i32, ConnectError> {
    value.parse().map_err(|_| ConnectError::Value { name, value, wanted: "a number" })
}

fn reason(value: String) -> Result<ReconnectReason, ConnectError> {
    let number = number("reconnect_reason", value)?;
    // Reasons of newer protocols are as good as none.
    Ok(ReconnectReason::try_from(number).unwrap_or(ReconnectReason::RrUnknown))
}

/// SDKs name themselves in lower case, without underscores.
fn sdk(name: &str) -> client_info::Sdk {
    client_info::Sdk::from_str_name(&name.to_ascii_uppercase())
        .or(match name {
            "reactnative" | "react-native" => Some(client_info::Sdk::ReactNative),
            "unityweb" => Some(client_info::Sdk::UnityWeb),
            _ => None,
        })
        .unwrap_or(client_info::Sdk::Unknown)
}

/// Comma-separated numbers or names; unknown ones are ignored.
fn capabilities(value: &str) -> Vec<i32> {
    let capability = |word: &str| {
        let number = word.parse::<i32>().ok().and_then(|number| client_info::Capability::try_from(number).ok());
        number.or_else(|| client_info::Capability::from_str_name(word)).map(|capability| capability as i32)
    };
    value.split(',').filter_map(capability).collect()
}

/// Base64 in either alphabet, padded or not, of a JSON object of strings.
fn attributes(value: String) -> Result<BTreeMap<String, String>, ConnectError> {
    if value.is_empty() {
        return Ok(BTreeMap::new());
    }
    let config = engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent);
    // An unescaped `+` arrives as a space.
    let canonical = value.replace('-', "+").replace('_', "/").replace(' ', "+");
    let bytes = engine::GeneralPurpose::new(&alphabet::STANDARD, config).decode(canonical).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice::<BTreeMap<String, String>>(&bytes).ok())
        .filter(|attributes| attributes.len() <= ATTRIBUTES_MAX)
        .ok_or(ConnectError::Value {
            name: "attributes",
            value: value.chars().take(64).collect(),
            wanted: "base64 of a JSON object of at most 256 strings",
        })
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn a_browser_joins() {
        let params = ConnectParams::parse(
            "access_token=a.b.c&auto_subscribe=1&sdk=js&version=2.21.0&protocol=17&adaptive_stream=1&browser=Chrome&browser_version=156.0&os=Linux%20x&client_protocol=2&capabilities=1,CAP_COMPRESSION_DEFLATE_RAW,77&new=1",
        )
        .unwrap();
        assert_eq!(params.access_token.as_deref(), Some("a.b.c"));
        assert!(params.auto_subscribe && params.adaptive_stream && params.reconnect.is_none());
        assert_eq!((params.client.sdk(), params.client.os.as_str()), (client_info::Sdk::Js, "Linux x"));
        assert_eq!((params.client.protocol, params.client.capabilities.as_slice()), (17, &[1, 2][..]));
    }

    #[test]
    fn defaults_are_those_of_clients_that_say_nothing() {
        let params = ConnectParams::parse("protocol=13").unwrap();
        assert!(params.auto_subscribe && !params.adaptive_stream);
        assert_eq!((params.subscriber_allow_pause, params.auto_subscribe_data_track), (None, None));
        assert!(!ConnectParams::parse("protocol=13&auto_subscribe=0").unwrap().auto_subscribe);
    }

    #[test]
    fn resume() {
        let params = ConnectParams::parse("protocol=16&reconnect=1&sid=PA_x&reconnect_reason=3").unwrap();
        let want = Reconnect { sid: "PA_x".into(), reason: ReconnectReason::RrSubscriberFailed };
        assert_eq!(params.reconnect, Some(want));
        assert_eq!(ConnectParams::parse("protocol=16&sid=PA_x").unwrap().reconnect, None);
    }

    #[test]
    fn attributes_in_both_alphabets() {
        let json = r#"{"a":"ü?>~"}"#;
        for encoded in [BASE64_STANDARD.encode(json), BASE64_URL_SAFE_NO_PAD.encode(json)] {
            let params = ConnectParams::parse(&format!("protocol=17&attributes={encoded}")).unwrap();
            assert_eq!(params.attributes["a"], "ü?>~");
        }
    }

    #[test]
    fn bad_parameters_are_refused_with_a_reason() {
        let check = |query: &str, want: &str| {
            let error = ConnectParams::parse(query).unwrap_err().to_string();
            assert!(error.contains(want), "{query}: {error}");
        };
        check("protocol=12", "too old");
        check("", "too old");
        check("protocol=x", "not a number");
        check("protocol=17&join_request=abc", "single peer connection");
        check("protocol=17&sid=%zz", "`sid` is not percent-encoded");
        check("protocol=17&sid=%ff", "`sid` is not percent-encoded");
        check("protocol=17&reconnect=maybe", "not 1, 0, true or false");
        check("protocol=17&attributes=e30x", "base64 of a JSON object");
        check(&"x".repeat(QUERY_BYTES_MAX + 1), "at most 65536");
    }
}
