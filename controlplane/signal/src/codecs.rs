//! Formats and header extensions that are negotiated.
