//! What fuzz targets and tests call: every parser over arbitrary bytes.
