//! Writing. The order of attributes is the one browsers use.

use std::fmt::{Display, Formatter, Result};

use super::*;

impl Display for Description {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", self.session, self.version)?;
        if self.ice_lite {
            f.write_str("a=ice-lite\r\n")?;
        }
        if !self.bundle.is_empty() {
            write!(f, "a=group:BUNDLE {}\r\n", self.bundle.join(" "))?;
        }
        if self.extmap_allow_mixed {
            f.write_str("a=extmap-allow-mixed\r\n")?;
        }
        f.write_str("a=msid-semantic: WMS *\r\n")?;
        self.media.iter().try_for_each(|media| write!(f, "{media}"))
    }
}

impl Display for Media {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let kind = match &self.kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Application => "application",
            MediaKind::Other(other) => other,
        };
        write!(f, "m={kind} {} {}", self.port, self.protocol)?;
        if self.formats.is_empty() {
            write!(f, " {}", self.other_formats)?;
        }
        for format in &self.formats {
            write!(f, " {}", format.payload_type)?;
        }
        f.write_str("\r\nc=IN IP4 0.0.0.0\r\n")?;
        self.transport(f)?;
        write!(f, "a=mid:{}\r\n", self.mid)?;
        for (id, uri) in &self.extensions {
            write!(f, "a=extmap:{id} {uri}\r\n")?;
        }
        if self.kind != MediaKind::Application {
            self.rtp(f)?;
        }
        if let Some(port) = self.sctp_port {
            write!(f, "a=sctp-port:{port}\r\n")?;
        }
        if let Some(size) = self.max_message_size {
            write!(f, "a=max-message-size:{size}\r\n")?;
        }
        Ok(())
    }
}

impl Media {
    fn transport(&self, f: &mut Formatter<'_>) -> Result {
        for candidate in &self.candidates {
            write!(f, "a=candidate:{candidate}\r\n")?;
        }
        if let Some(ice) = &self.ice {
            write!(f, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n", ice.ufrag, ice.pwd)?;
        }
        if let Some(fingerprint) = &self.fingerprint {
            let pairs: Vec<String> = fingerprint.sha256.iter().map(|byte| format!("{byte:02X}")).collect();
            write!(f, "a=fingerprint:sha-256 {}\r\n", pairs.join(":"))?;
        }
        match self.setup {
            Some(Setup::ActPass) => f.write_str("a=setup:actpass\r\n"),
            Some(Setup::Active) => f.write_str("a=setup:active\r\n"),
            Some(Setup::Passive) => f.write_str("a=setup:passive\r\n"),
            Some(Setup::HoldConn) => f.write_str("a=setup:holdconn\r\n"),
            None => Ok(()),
        }
    }

    fn rtp(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self.direction {
            Direction::SendRecv => "a=sendrecv\r\n",
            Direction::SendOnly => "a=sendonly\r\n",
            Direction::RecvOnly => "a=recvonly\r\n",
            Direction::Inactive => "a=inactive\r\n",
        })?;
        if let Some((stream, track)) = &self.msid {
            write!(f, "a=msid:{stream} {track}\r\n")?;
        }
        if self.rtcp_mux {
            f.write_str("a=rtcp-mux\r\n")?;
        }
        if self.rtcp_rsize {
            f.write_str("a=rtcp-rsize\r\n")?;
        }
        for format in self.formats.iter().filter(|format| !format.name.is_empty()) {
            write!(f, "{format}")?;
        }
        if !self.rids.is_empty() {
            let direction = if self.direction.sends() { "send" } else { "recv" };
            for rid in &self.rids {
                write!(f, "a=rid:{rid} {direction}\r\n")?;
            }
            write!(f, "a=simulcast:{direction} {}\r\n", self.rids.join(";"))?;
        }
        for (semantics, ssrcs) in &self.groups {
            write!(f, "a=ssrc-group:{semantics}")?;
            ssrcs.iter().try_for_each(|ssrc| write!(f, " {ssrc}"))?;
            f.write_str("\r\n")?;
        }
        for ssrc in &self.ssrcs {
            if let Some(cname) = &self.cname {
                write!(f, "a=ssrc:{ssrc} cname:{cname}\r\n")?;
            }
            if let Some((stream, track)) = &self.msid {
                write!(f, "a=ssrc:{ssrc} msid:{stream} {track}\r\n")?;
            }
        }
        Ok(())
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let payload_type = self.payload_type;
        write!(f, "a=rtpmap:{payload_type} {}/{}", self.name, self.clock_rate)?;
        if let Some(channels) = self.channels {
            write!(f, "/{channels}")?;
        }
        f.write_str("\r\n")?;
        for feedback in &self.feedback {
            write!(f, "a=rtcp-fb:{payload_type} {feedback}\r\n")?;
        }
        if !self.parameters.is_empty() {
            write!(f, "a=fmtp:{payload_type} {}\r\n", self.parameters)?;
        }
        Ok(())
    }
}
