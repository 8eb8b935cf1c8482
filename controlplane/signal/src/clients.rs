//! What differs from one client to another.

use livekit_protocol::{ClientInfo, client_info::Sdk};
use serde::{Deserialize, Serialize};

/// Behaviour to expect of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quirks {
    /// RED (RFC 2198) may be negotiated; Firefox and Safari do not decode what others send.
    pub red: bool,
    /// An inactive m-line may carry a later track; Safari mixes them up.
    pub transceiver_reuse: bool,
    /// It can switch single encodings of a sender off and on (dynacast); Firefox cannot.
    pub encoding_toggle: bool,
    /// It sends the first codec of an answer; Firefox on Linux and Android sends its own first.
    pub codec_order: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Quirks { red: true, transceiver_reuse: true, encoding_toggle: true, codec_order: true }
    }
}

impl Quirks {
    /// Quirks of the client that describes itself so. Unknown clients are taken for well-behaved ones.
    pub fn of(client: &ClientInfo) -> Quirks {
        let is = |browser: &str| client.browser.eq_ignore_ascii_case(browser);
        let (firefox, safari) = (is("firefox"), is("safari"));
        let os = |name: &str| client.os.to_ascii_lowercase().contains(name);
        Quirks {
            red: !firefox && !safari,
            transceiver_reuse: !safari,
            encoding_toggle: !firefox,
            codec_order: !(firefox && (os("linux") || os("android"))),
        }
    }

    /// True for clients that raise a track only when its first packet comes (the Go SDK).
    pub fn tracks_on_packet(client: &ClientInfo) -> bool {
        client.sdk() == Sdk::Go
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers() {
        let check = |browser: &str, os: &str, want: Quirks| {
            let client = ClientInfo { browser: browser.into(), os: os.into(), ..Default::default() };
            assert_eq!(Quirks::of(&client), want, "{browser} on {os}");
        };
        let all = Quirks::default();
        check("Chrome", "macOS", all);
        check("", "linux", all);
        check("Firefox", "Windows", Quirks { red: false, encoding_toggle: false, ..all });
        check("firefox", "Linux", Quirks { red: false, encoding_toggle: false, codec_order: false, ..all });
        check("Safari", "iOS", Quirks { red: false, transceiver_reuse: false, ..all });
    }
}
