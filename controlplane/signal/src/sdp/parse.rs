//! Reading. Work and memory are linear in the length of the input, since every list has a maximum.

use sluice_messages::{Fingerprint, IceCredentials};

use super::*;

impl Description {
    /// Reads a description. Line ends may be CRLF or LF.
    pub fn parse(sdp: &str) -> Result<Description, SdpError> {
        if sdp.len() > BYTES_MAX {
            return Err(SdpError::TooLong(sdp.len()));
        }
        let mut reader = Reader::default();
        let mut first = true;
        for (i, line) in sdp.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if line.chars().any(char::is_control) {
                return Err(SdpError::Control { line: i + 1 });
            }
            if std::mem::take(&mut first) && line != "v=0" {
                return Err(SdpError::Malformed { line: i + 1, what: "the version line" });
            }
            reader.line = i + 1;
            match line.split_once('=') {
                Some(("m", value)) => reader.begin_media(value)?,
                Some(("a", value)) => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    reader.attribute(name, value)?;
                }
                Some(("o", value)) if reader.media.is_empty() => reader.origin(value)?,
                Some((kind, _)) if kind.len() == 1 => {}
                _ => return Err(reader.malformed("the line")),
            }
        }
        if first {
            return Err(SdpError::Empty);
        }
        reader.finish()
    }
}

/// Attributes of a section, or of the session, that are put together only at the end.
#[derive(Default)]
struct Level {
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprint: Option<Fingerprint>,
    setup: Option<Setup>,
    direction: Option<Direction>,
}

#[derive(Default)]
struct Reader {
    line: usize,
    description: Description,
    session: Level,
    media: Vec<(Media, Level)>,
}

impl Reader {
    fn malformed(&self, what: &'static str) -> SdpError {
        SdpError::Malformed { line: self.line, what }
    }

    fn number<T: std::str::FromStr>(&self, text: Option<&str>, what: &'static str) -> Result<T, SdpError> {
        text.and_then(|text| text.parse().ok()).ok_or(self.malformed(what))
    }

    fn push<T>(&self, list: &mut Vec<T>, item: T, what: &'static str) -> Result<(), SdpError> {
        if list.len() >= LIST_MAX {
            return Err(SdpError::TooMany { line: self.line, what });
        }
        list.push(item);
        Ok(())
    }

    fn origin(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split(' ').skip(1);
        self.description.session = self.number(words.next(), "the origin")?;
        self.description.version = self.number(words.next(), "the origin")?;
        Ok(())
    }

    fn begin_media(&mut self, value: &str) -> Result<(), SdpError> {
        if self.media.len() >= MEDIA_MAX {
            return Err(SdpError::TooManyMedia);
        }
        let mut words = value.split(' ');
        let kind = match words.next().filter(|kind| !kind.is_empty()).ok_or(self.malformed("the m-line"))? {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "application" => MediaKind::Application,
            other => MediaKind::Other(other.to_owned()),
        };
        // A number of ports may follow, which WebRTC does not use.
        let port = words.next().and_then(|port| port.split('/').next());
        let mut media = Media::new(kind, String::new());
        media.port = self.number(port, "the port")?;
        media.protocol = words.next().ok_or(self.malformed("the protocol"))?.to_owned();
        media.other_formats = words.clone().collect::<Vec<_>>().join(" ");
        if matches!(media.kind, MediaKind::Audio | MediaKind::Video) {
            for word in words {
                let payload_type: u8 = self.number(Some(word), "a payload type")?;
                if payload_type > 127 || media.formats.iter().any(|f| f.payload_type == payload_type) {
                    return Err(self.malformed("a payload type"));
                }
                let format = Format { payload_type, ..Default::default() };
                self.push(&mut media.formats, format, "payload types")?;
            }
        }
        self.media.push((media, Level::default()));
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), SdpError> {
        if self.transport(name, value)? {
            return Ok(());
        }
        if self.media.is_empty() {
            return self.session_attribute(name, value);
        }
        // Taken out so that `self` can lend its line number to errors.
        let Some((mut media, level)) = self.media.pop() else { return Ok(()) };
        let result = self.media_attribute(&mut media, name, value);
        self.media.push((media, level));
        result
    }

    fn session_attribute(&mut self, name: &str, value: &str) -> Result<(), SdpError> {
        match name {
            "ice-lite" => self.description.ice_lite = true,
            "extmap-allow-mixed" => self.description.extmap_allow_mixed = true,
            "group" => {
                if let Some(mids) = value.strip_prefix("BUNDLE") {
                    // Of several groups the first counts; a client of ours has one.
                    if self.description.bundle.is_empty() {
                        self.description.bundle =
                            mids.split(' ').filter(|mid| !mid.is_empty()).map(str::to_owned).collect();
                    }
                    if self.description.bundle.len() > MEDIA_MAX {
                        return Err(SdpError::TooManyMedia);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Attributes that may stand at either level; false if it is none of them.
    fn transport(&mut self, name: &str, value: &str) -> Result<bool, SdpError> {
        let ice_chars = |min: usize| {
            let ok = |c: char| c.is_ascii_graphic();
            (min..=256).contains(&value.len()) && value.chars().all(ok)
        };
        let direction = match name {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        };
        let error = |what| Err(SdpError::Malformed { line: self.line, what });
        let level = self.media.last_mut().map_or(&mut self.session, |(_, level)| level);
        match name {
            "ice-ufrag" if ice_chars(4) => level.ufrag = Some(value.to_owned()),
            "ice-ufrag" => return error("the ufrag"),
            "ice-pwd" if ice_chars(22) => level.pwd = Some(value.to_owned()),
            "ice-pwd" => return error("the password"),
            "fingerprint" => {
                let (hash, digest) = value.split_once(' ').unwrap_or((value, ""));
                if hash.eq_ignore_ascii_case("sha-256") {
                    let Some(sha256) = digest_of(digest) else { return error("the fingerprint") };
                    level.fingerprint = Some(Fingerprint { sha256 });
                }
            }
            "setup" => {
                level.setup = Some(match value {
                    "actpass" => Setup::ActPass,
                    "active" => Setup::Active,
                    "passive" => Setup::Passive,
                    "holdconn" => Setup::HoldConn,
                    _ => return error("the setup role"),
                });
            }
            _ if direction.is_some() => level.direction = direction,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn media_attribute(&self, media: &mut Media, name: &str, value: &str) -> Result<(), SdpError> {
        match name {
            "mid" => {
                if value.is_empty() || value.len() > MID_BYTES_MAX || value.contains(' ') {
                    return Err(self.malformed("the mid"));
                }
                media.mid = value.to_owned();
            }
            // RFC 9143 section 6: port zero does not mean rejected here. Firefox offers all but the first section so.
            "bundle-only" if media.port == 0 => media.port = 9,
            "rtcp-mux" => media.rtcp_mux = true,
            "rtcp-rsize" => media.rtcp_rsize = true,
            "rtpmap" => self.rtpmap(media, value)?,
            "fmtp" => {
                let (format, parameters) = self.format(media, value, "fmtp")?;
                if let Some(format) = format {
                    format.parameters = parameters.to_owned();
                }
            }
            "rtcp-fb" => self.feedback(media, value)?,
            "extmap" => {
                let (id, uri) = value.split_once(' ').ok_or(self.malformed("the extmap"))?;
                let id: u16 = self.number(id.split('/').next(), "the extmap id")?;
                // RFC 8285: 15 means "stop" in the one-byte form; ids above 255 are provisional.
                if let Some(id) = u8::try_from(id).ok().filter(|&id| id != 0 && id != 15) {
                    let uri = uri.split(' ').next().unwrap_or_default().to_owned();
                    self.push(&mut media.extensions, (id, uri), "extensions")?;
                }
            }
            "msid" => {
                let (stream, track) = value.split_once(' ').unwrap_or((value, ""));
                media.msid = Some((stream.to_owned(), track.to_owned()));
            }
            "simulcast" => self.simulcast(media, value)?,
            "ssrc" => self.ssrc(media, value)?,
            "ssrc-group" => {
                let mut words = value.split(' ');
                let semantics = words.next().unwrap_or_default().to_owned();
                let mut ssrcs = Vec::new();
                for word in words.filter(|word| !word.is_empty()) {
                    let ssrc = self.number(Some(word), "the ssrc-group")?;
                    self.push(&mut ssrcs, ssrc, "SSRCs")?;
                }
                self.push(&mut media.groups, (semantics, ssrcs), "SSRC groups")?;
            }
            "sctp-port" => media.sctp_port = Some(self.number(Some(value), "the SCTP port")?),
            "max-message-size" => media.max_message_size = Some(self.number(Some(value), "the message size")?),
            _ => {}
        }
        Ok(())
    }

    /// Splits off the payload type and finds its format. Attributes of types that are not on the m-line are skipped.
    fn format<'m, 'v>(
        &self,
        media: &'m mut Media,
        value: &'v str,
        what: &'static str,
    ) -> Result<(Option<&'m mut Format>, &'v str), SdpError> {
        let (payload_type, rest) = value.split_once(' ').unwrap_or((value, ""));
        let payload_type: u8 = match media.kind {
            MediaKind::Audio | MediaKind::Video => self.number(Some(payload_type), what)?,
            _ => return Ok((None, rest)),
        };
        Ok((media.formats.iter_mut().find(|f| f.payload_type == payload_type), rest))
    }

    fn rtpmap(&self, media: &mut Media, value: &str) -> Result<(), SdpError> {
        let (format, encoding) = self.format(media, value, "the rtpmap")?;
        let Some(format) = format else { return Ok(()) };
        let mut parts = encoding.split('/');
        format.name = parts.next().unwrap_or_default().to_owned();
        format.clock_rate = self.number(parts.next(), "the clock rate")?;
        format.channels = parts.next().map(|channels| self.number(Some(channels), "the channels")).transpose()?;
        Ok(())
    }

    fn feedback(&self, media: &mut Media, value: &str) -> Result<(), SdpError> {
        if let Some(feedback) = value.strip_prefix("* ") {
            for format in &mut media.formats {
                self.push(&mut format.feedback, feedback.to_owned(), "feedback types")?;
            }
            return Ok(());
        }
        let (format, feedback) = self.format(media, value, "the rtcp-fb")?;
        match format {
            Some(format) => self.push(&mut format.feedback, feedback.to_owned(), "feedback types"),
            None => Ok(()),
        }
    }

    /// `send q;h,x;~f recv a` (RFC 8853): `;` separates streams, `,` alternatives, `~` marks paused ones.
    fn simulcast(&self, media: &mut Media, value: &str) -> Result<(), SdpError> {
        let mut words = value.split(' ').filter(|word| !word.is_empty());
        while let (Some(direction), Some(list)) = (words.next(), words.next()) {
            if direction != "send" {
                continue;
            }
            for stream in list.split(';') {
                let rid = stream.split(',').next().unwrap_or_default();
                let rid = rid.strip_prefix('~').unwrap_or(rid);
                let ok = (1..=16).contains(&rid.len())
                    && rid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                if !ok || media.rids.iter().any(|other| other == rid) {
                    return Err(self.malformed("the simulcast list"));
                }
                self.push(&mut media.rids, rid.to_owned(), "RIDs")?;
            }
        }
        Ok(())
    }

    fn ssrc(&self, media: &mut Media, value: &str) -> Result<(), SdpError> {
        let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let ssrc = self.number(Some(ssrc), "the SSRC")?;
        if !media.ssrcs.contains(&ssrc) {
            self.push(&mut media.ssrcs, ssrc, "SSRCs")?;
        }
        // Older stacks have the track id only here.
        if let Some((stream, track)) = attribute.strip_prefix("msid:").and_then(|msid| msid.split_once(' ')) {
            media.msid.get_or_insert_with(|| (stream.to_owned(), track.to_owned()));
        }
        Ok(())
    }

    fn finish(self) -> Result<Description, SdpError> {
        let mut mids = std::collections::HashSet::new();
        let mut description = self.description;
        for (index, (mut media, level)) in self.media.into_iter().enumerate() {
            if media.mid.is_empty() {
                return Err(SdpError::NoMid { index });
            }
            if !mids.insert(media.mid.clone()) {
                return Err(SdpError::DuplicateMid(media.mid));
            }
            let ufrag = level.ufrag.or_else(|| self.session.ufrag.clone());
            let pwd = level.pwd.or_else(|| self.session.pwd.clone());
            media.ice = ufrag.zip(pwd).map(|(ufrag, pwd)| IceCredentials { ufrag, pwd });
            media.fingerprint = level.fingerprint.or(self.session.fingerprint);
            media.setup = level.setup.or(self.session.setup);
            media.direction = level.direction.or(self.session.direction).unwrap_or_default();
            description.media.push(media);
        }
        Ok(description)
    }
}

/// 32 hexadecimal pairs between colons.
fn digest_of(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let mut pairs = text.trim().split(':');
    for byte in &mut digest {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(digest)
}
