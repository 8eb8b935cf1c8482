//! Claims of an access token and what they permit. Signatures are verified elsewhere.

use std::collections::BTreeMap;

use livekit_protocol::{ParticipantPermission, TrackSource};
use serde::{Deserialize, Serialize};

/// Longest room name or identity in bytes. They are keys of maps and stores and are shown to people.
pub const NAME_BYTES_MAX: usize = 256;

/// Claims of a LiveKit access token. Claims that are not listed are accepted and ignored.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// API key.
    pub iss: String,
    /// Identity of the participant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Name to show.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `standard`, `agent`, `egress`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Base64 of the SHA-256 of a webhook's body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room_preset: String,
    /// Protojson of `RoomConfiguration`, used when the room is made by this token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
}

/// The `video` claim. Absent booleans mean what [`Permission::of`] says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_record: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// Names of sources: `camera`, `microphone`, `screen_share`, `screen_share_audio`; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can_publish_sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub recorder: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ingress_admin: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_room: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What a participant may do, with nothing left open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Permission {
    pub can_publish: bool,
    pub can_subscribe: bool,
    pub can_publish_data: bool,
    /// Sources that may be published as numbers of [`TrackSource`]; empty: all.
    pub can_publish_sources: Vec<i32>,
    pub can_update_metadata: bool,
    pub can_subscribe_metrics: bool,
    pub hidden: bool,
    pub recorder: bool,
    pub agent: bool,
}

impl Permission {
    /// Absent `canPublish` and `canSubscribe` allow, absent `canPublishData` follows `canPublish`, absent
    /// `canUpdateOwnMetadata` denies. Unknown source names allow nothing; a list of only unknown names forbids publishing.
    pub fn of(grant: &VideoGrant) -> Permission {
        let can_publish_sources: Vec<i32> =
            grant.can_publish_sources.iter().filter_map(|name| source(name)).map(|source| source as i32).collect();
        let none_known = can_publish_sources.is_empty() && !grant.can_publish_sources.is_empty();
        let can_publish = grant.can_publish.unwrap_or(true);
        Permission {
            can_publish: can_publish && !none_known,
            can_subscribe: grant.can_subscribe.unwrap_or(true),
            can_publish_data: grant.can_publish_data.unwrap_or(can_publish),
            can_publish_sources,
            can_update_metadata: grant.can_update_own_metadata.unwrap_or(false),
            can_subscribe_metrics: grant.can_subscribe_metrics.unwrap_or(false),
            hidden: grant.hidden,
            recorder: grant.recorder,
            agent: grant.agent,
        }
    }

    /// A track of this source may be published.
    pub fn allows(&self, source: TrackSource) -> bool {
        self.can_publish && (self.can_publish_sources.is_empty() || self.can_publish_sources.contains(&(source as i32)))
    }

    /// As clients see it in ParticipantInfo.
    #[expect(deprecated, reason = "clients of protocol 13 still read the old fields")]
    pub fn to_proto(&self) -> ParticipantPermission {
        ParticipantPermission {
            can_subscribe: self.can_subscribe,
            can_publish: self.can_publish,
            can_publish_data: self.can_publish_data,
            can_publish_sources: self.can_publish_sources.clone(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.can_update_metadata,
            agent: self.agent,
            can_subscribe_metrics: self.can_subscribe_metrics,
            can_manage_agent_session: false,
        }
    }

    /// From UpdateParticipant of the server API.
    #[expect(deprecated, reason = "back ends still set the old fields")]
    pub fn from_proto(proto: &ParticipantPermission) -> Permission {
        Permission {
            can_publish: proto.can_publish,
            can_subscribe: proto.can_subscribe,
            can_publish_data: proto.can_publish_data,
            can_publish_sources: proto.can_publish_sources.clone(),
            can_update_metadata: proto.can_update_metadata,
            can_subscribe_metrics: proto.can_subscribe_metrics,
            hidden: proto.hidden,
            recorder: proto.recorder,
            agent: proto.agent,
        }
    }
}

/// The source with this name in a token.
pub fn source(name: &str) -> Option<TrackSource> {
    TrackSource::from_str_name(&name.to_ascii_uppercase()).filter(|&source| source != TrackSource::Unknown)
}

/// A room name or identity that cannot be used; the request gets 400 and this reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// {what} is missing
    #[error("{what} is missing: {remedy}")]
    Missing { what: &'static str, remedy: &'static str },
    /// {what} has {bytes} bytes
    #[error("{what} has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")]
    TooLong { what: &'static str, bytes: usize },
    /// {what} contains a control character
    #[error("{what} contains the control character U+{code:04X} at byte {at}; use printable characters")]
    Control { what: &'static str, code: u32, at: usize },
}

/// Checks a room name.
pub fn check_room(name: &str) -> Result<(), NameError> {
    check_name("room name", "set `video.room` in the token", name)
}

/// Checks an identity.
pub fn check_identity(identity: &str) -> Result<(), NameError> {
    check_name("identity", "set `sub` in the token", identity)
}

fn check_name(what: &'static str, remedy: &'static str, name: &str) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Missing { what, remedy });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: name.len() });
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(NameError::Control { what, code: c as u32, at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(json: &str) -> VideoGrant {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn absent_grants() {
        let open = Permission::of(&grant(r#"{"room":"r","roomJoin":true}"#));
        assert!(open.can_publish && open.can_subscribe && open.can_publish_data && !open.can_update_metadata);
        let listener = Permission::of(&grant(r#"{"canPublish":false}"#));
        assert!(!listener.can_publish && !listener.can_publish_data && listener.can_subscribe);
        let chat = Permission::of(&grant(r#"{"canPublish":false,"canPublishData":true,"canSubscribe":false}"#));
        assert!(chat.can_publish_data && !chat.can_subscribe);
        assert!(Permission::of(&grant(r#"{"canUpdateOwnMetadata":true}"#)).can_update_metadata);
    }

    #[test]
    fn sources_limit_what_is_published() {
        let p = Permission::of(&grant(r#"{"canPublishSources":["microphone","screen_share"]}"#));
        assert!(p.allows(TrackSource::Microphone) && p.allows(TrackSource::ScreenShare));
        assert!(!p.allows(TrackSource::Camera) && !p.allows(TrackSource::Unknown));
        assert!(!Permission::of(&grant(r#"{"canPublishSources":["hologram"]}"#)).can_publish);
        assert_eq!(Permission::from_proto(&p.to_proto()), p);
    }

    #[test]
    fn claims_of_a_current_sdk_are_read_and_unknown_ones_ignored() {
        let json = r#"{"iss":"devkey","sub":"ann","exp":1,"name":"Ann","video":{"room":"r","roomJoin":true,"canManageAgentSession":true},
            "sip":{"admin":true},"roomConfig":{"emptyTimeout":5},"attributes":{"a":"b"},"kindDetails":["x"],"jti":"ann"}"#;
        let claims: Claims = serde_json::from_str(json).unwrap();
        assert_eq!((claims.sub.as_str(), claims.attributes["a"].as_str()), ("ann", "b"));
        assert!(claims.video.as_ref().unwrap().room_join);
        let again: Claims = serde_json::from_str(&serde_json::to_string(&claims).unwrap()).unwrap();
        assert_eq!(again, claims);
    }

    #[test]
    fn names() {
        let check = |name: &str, want: &str| match check_room(name) {
            Ok(()) => assert_eq!(want, "", "{name:?}"),
            Err(error) => assert_eq!(error.to_string(), want),
        };
        check("Büro 3", "");
        check(&"x".repeat(256), "");
        check("", "room name is missing: set `video.room` in the token");
        check(&"x".repeat(257), "room name has 257 bytes; at most 256 are allowed");
        check("a\nb", "room name contains the control character U+000A at byte 1; use printable characters");
        assert!(check_identity("  ").unwrap_err().to_string().starts_with("identity is missing"));
    }
}
