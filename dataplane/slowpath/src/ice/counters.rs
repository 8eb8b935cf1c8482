//! What the agent counts.

use super::Dropped;

/// Counters since start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub accepted: u64,
    pub responded: u64,
    pub foreign: u64,
    pub evicted: u64,
    pub expired: u64,
    pub malformed: u64,
    pub method: u64,
    pub username: u64,
    pub integrity_missing: u64,
    pub integrity_wrong: u64,
    pub fingerprint: u64,
    pub unknown_attribute: u64,
    pub role_conflict: u64,
    pub amplifying: u64,
    pub rate_limited: u64,
    pub no_room: u64,
}

impl Counters {
    pub(super) fn dropped(&mut self, reason: Dropped) {
        *match reason {
            Dropped::Malformed => &mut self.malformed,
            Dropped::Method => &mut self.method,
            Dropped::Username => &mut self.username,
            Dropped::IntegrityMissing => &mut self.integrity_missing,
            Dropped::IntegrityWrong => &mut self.integrity_wrong,
            Dropped::Fingerprint => &mut self.fingerprint,
            Dropped::UnknownAttribute => &mut self.unknown_attribute,
            Dropped::RoleConflict => &mut self.role_conflict,
            Dropped::Amplifying => &mut self.amplifying,
            Dropped::RateLimited => &mut self.rate_limited,
            Dropped::NoRoom => &mut self.no_room,
        } += 1;
    }

    /// All of them by name, for the report to control.
    pub fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("ice_accepted", self.accepted),
            ("ice_responded", self.responded),
            ("ice_foreign", self.foreign),
            ("ice_evicted", self.evicted),
            ("ice_expired", self.expired),
            ("ice_malformed", self.malformed),
            ("ice_method", self.method),
            ("ice_username", self.username),
            ("ice_integrity_missing", self.integrity_missing),
            ("ice_integrity_wrong", self.integrity_wrong),
            ("ice_fingerprint", self.fingerprint),
            ("ice_unknown_attribute", self.unknown_attribute),
            ("ice_role_conflict", self.role_conflict),
            ("ice_amplifying", self.amplifying),
            ("ice_rate_limited", self.rate_limited),
            ("ice_no_room", self.no_room),
        ]
    }
}
