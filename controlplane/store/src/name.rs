//! Names as parts of a path: percent-encoded, so that every text is one part and an operator can read the usual ones.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::Collection;

/// What is encoded: all but letters, digits and three signs of ASCII.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Stands for the empty name; no other name is encoded as a single sign of percent.
const EMPTY: &str = "%";

/// A name as one part of a path.
pub(crate) fn encode(name: &str) -> String {
    // ZooKeeper takes neither `.` nor `..` as a part.
    match name {
        "" => EMPTY.into(),
        _ => match name.strip_prefix('.') {
            Some(rest) => format!("%2E{}", utf8_percent_encode(rest, ENCODED)),
            None => utf8_percent_encode(name, ENCODED).to_string(),
        },
    }
}

/// The name that a part of a path stands for, if it is one that [`encode`] makes.
pub(crate) fn decode(part: &str) -> Option<String> {
    if part == EMPTY {
        return Some(String::new());
    }
    let name = percent_decode_str(part).decode_utf8().ok()?.into_owned();
    (encode(&name) == part).then_some(name)
}

/// [`decode`] for what stands in a store: a stranger's key is counted, said and left out.
pub(crate) fn decode_found(collection: Collection, part: &str) -> Option<String> {
    let name = decode(part);
    if name.is_none() {
        tracing::warn!("the store holds a key that is none of ours and is left out: {collection}/{part:?}");
        metrics::counter!("sluice_store_garbage_total", "collection" => collection.as_str()).increment(1);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_part_and_comes_back() {
        for name in
            ["daily", "", ".", "..", "...", "a/b", "%", "%25", "a b", "zürich", "\0", "日本/語", "a.b-c_d", "%2F"]
        {
            let part = encode(name);
            assert!(!part.is_empty() && !part.contains('/') && !part.starts_with('.') && part.is_ascii(), "{part:?}");
            assert_eq!(decode(&part).as_deref(), Some(name));
        }
        assert_eq!(encode("node-1.example_x"), "node-1.example_x");
    }

    #[test]
    fn parts_of_another_form_are_no_names() {
        for part in ["", "a/b", "%zz", "%2f", "a b", "%FF", "%41", "."] {
            assert_eq!(decode(part), None, "{part:?}");
        }
    }
}
