//! Header extension elements, RFC 8285: one-byte form (section 4.2) and two-byte form (section 4.3).

use super::{EXTENSION_BIT, FIXED_HEADER_BYTES, RtpError};
use crate::bytes::put;

const ONE_BYTE_PROFILE: u16 = 0xBEDE;
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// The one-byte form's id that ends the block.
const STOP_ID: u8 = 15;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    OneByte,
    TwoByte,
    /// A profile of which we know no elements.
    Opaque,
}

/// Iterator over a header's extension elements as (id, value). Ends at the first element that runs past the block.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    pub(super) fn new(profile: Option<u16>, block: &'a [u8]) -> Extensions<'a> {
        let form = match profile {
            Some(ONE_BYTE_PROFILE) => Form::OneByte,
            Some(0x1000..=0x100F) => Form::TwoByte,
            _ => Form::Opaque,
        };
        Extensions { form, rest: block }
    }

    /// Whether every element is within the block.
    pub(super) fn are_well_formed(&self) -> bool {
        let mut walk = self.clone();
        loop {
            match walk.step() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn step(&mut self) -> Result<Option<(u8, &'a [u8])>, RtpError> {
        loop {
            let (id, len, head) = match (self.form, self.rest) {
                (Form::Opaque, _) | (_, []) => return Ok(None),
                // A zero byte is padding between elements in both forms.
                (_, [0, rest @ ..]) => {
                    self.rest = rest;
                    continue;
                }
                (Form::OneByte, [head, ..]) if head >> 4 == STOP_ID => return Ok(None),
                (Form::OneByte, [head, ..]) => (head >> 4, usize::from(head & 0x0F) + 1, 1),
                (Form::TwoByte, [id, len, ..]) => (*id, usize::from(*len), 2),
                (Form::TwoByte, [_]) => return Err(RtpError::Extension),
            };
            let value = self.rest.get(head..head + len).ok_or(RtpError::Extension)?;
            self.rest = self.rest.get(head + len..).unwrap_or_default();
            // RFC 8285 section 4.2: id 0 with a length is not padding, but nobody may use it.
            if id != 0 {
                return Ok(Some((id, value)));
            }
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        self.step().ok().flatten()
    }
}

/// Appends extension elements behind a header that has none yet. It writes the one-byte form, and turns to the two-byte
/// form when an element needs it (id over 14, or a value that is empty or over 16 bytes).
///
/// Dropping it without [`ExtensionWriter::finish`] leaves a header without extensions.
#[derive(Debug)]
pub struct ExtensionWriter<'a> {
    packet: &'a mut [u8],
    /// Where the block's 4-byte head goes.
    block_start: usize,
    end: usize,
    form: Form,
    elements: usize,
}

impl<'a> ExtensionWriter<'a> {
    /// `packet` begins with a header of `header_len` bytes, CSRCs included.
    pub fn new(packet: &'a mut [u8], header_len: usize) -> ExtensionWriter<'a> {
        let end = header_len.saturating_add(4);
        ExtensionWriter { packet, block_start: header_len, end, form: Form::OneByte, elements: 0 }
    }

    /// Appends one element. `None`, with the block as it was, where there is no room, `id` is zero or the value is over
    /// 255 bytes.
    pub fn push(&mut self, id: u8, value: &[u8]) -> Option<()> {
        if id == 0 {
            return None;
        }
        let value_len = u8::try_from(value.len()).ok()?;
        let needs_two_bytes = id >= STOP_ID || !(1..=16).contains(&value_len);
        let widening = if self.form == Form::OneByte && needs_two_bytes { self.elements } else { 0 };
        let head = if self.form == Form::TwoByte || needs_two_bytes { 2 } else { 1 };
        let end = self.end.checked_add(widening + head + value.len())?;
        if end > self.packet.len() {
            return None;
        }
        if self.form == Form::OneByte && needs_two_bytes {
            self.widen()?;
        }
        match self.form {
            Form::OneByte => put(self.packet, self.end, &[id << 4 | (value_len - 1)])?,
            _ => put(self.packet, self.end, &[id, value_len])?,
        }
        put(self.packet, self.end + head, value)?;
        self.end = end;
        self.elements += 1;
        Some(())
    }

    /// Completes the block (profile, length, padding to a word), sets the X bit, and returns the header's new length. With no
    /// element pushed the header stays as it was. `None` where there is no room.
    pub fn finish(self) -> Option<usize> {
        if self.elements == 0 {
            return (self.block_start <= self.packet.len()).then_some(self.block_start);
        }
        let elements_len = self.end - self.block_start - 4;
        let padded_end = self.end + elements_len.next_multiple_of(4) - elements_len;
        let words = u16::try_from(elements_len.div_ceil(4)).ok()?;
        let profile = if self.form == Form::OneByte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
        self.packet.get_mut(self.end..padded_end)?.fill(0);
        put(self.packet, self.block_start, &profile.to_be_bytes())?;
        put(self.packet, self.block_start + 2, &words.to_be_bytes())?;
        *self.packet.get_mut(..FIXED_HEADER_BYTES)?.first_mut()? |= EXTENSION_BIT;
        Some(padded_end)
    }

    /// Rewrites what is there from the one-byte to the two-byte form. The caller has made sure of the room: one byte more
    /// for each element.
    fn widen(&mut self) -> Option<()> {
        let mut write = self.block_start + 4;
        let mut read = write + self.elements;
        self.packet.copy_within(write..self.end, read);
        self.end += self.elements;
        // `read` is ahead of `write` by one byte for each element still to be widened.
        while read < self.end {
            let head = *self.packet.get(read)?;
            let len = usize::from(head & 0x0F) + 1;
            put(self.packet, write, &[head >> 4, len as u8])?;
            self.packet.copy_within(read + 1..read + 1 + len, write + 2);
            read += 1 + len;
            write += 2 + len;
        }
        self.form = Form::TwoByte;
        Some(())
    }
}

/// How long a block that [`ExtensionWriter`] writes becomes, from what is pushed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtensionSize {
    elements: usize,
    values: usize,
    needs_two_bytes: bool,
}

impl ExtensionSize {
    /// An element with a value of `len` bytes. One that the writer would refuse (`id` zero, over 255 bytes) does not count.
    pub fn push(&mut self, id: u8, len: usize) {
        if id == 0 || len > usize::from(u8::MAX) {
            return;
        }
        self.elements += 1;
        self.values += len;
        self.needs_two_bytes |= id >= STOP_ID || !(1..=16).contains(&len);
    }

    /// Bytes behind the header: none without elements, else a whole number of words.
    pub fn bytes(&self) -> usize {
        let heads = if self.needs_two_bytes { 2 * self.elements } else { self.elements };
        if self.elements == 0 { 0 } else { 4 + (heads + self.values).next_multiple_of(4) }
    }
}
