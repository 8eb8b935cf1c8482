//! The client-to-mixer audio level extension, RFC 6464.

/// How loud a packet's audio is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// The sender believes that this is speech.
    pub voice: bool,
    /// 0 (loudest) to 127 (silence), in -dBov.
    pub level_dbov: u8,
}

impl AudioLevel {
    /// Reads the extension's value, whose further bytes (two-byte padding) are ignored.
    pub fn parse(value: &[u8]) -> Option<AudioLevel> {
        let byte = *value.first()?;
        Some(AudioLevel { voice: byte & 0x80 != 0, level_dbov: byte & 0x7F })
    }

    /// The extension's value.
    pub fn to_byte(self) -> u8 {
        (u8::from(self.voice) << 7) | (self.level_dbov & 0x7F)
    }
}
