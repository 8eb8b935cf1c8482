//! What all requests share.

use std::sync::atomic::AtomicU64;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{actor::Inbox, token::Keys};

/// What handlers need.
pub(crate) struct State {
    pub(crate) inbox: Inbox,
    pub(crate) keys: Keys,
    pub(crate) development: bool,
    pub(crate) auto_create: bool,
    pub(crate) next_socket: AtomicU64,
    pub(crate) metrics: Option<PrometheusHandle>,
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).map(str::trim)
}

/// A refusal in words.
pub(crate) fn refuse(status: StatusCode, reason: &str) -> Response {
    metrics::counter!("sluice_http_refused_total", "status" => status.as_u16().to_string()).increment(1);
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{reason}\n")).into_response()
}
