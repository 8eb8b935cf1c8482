//! Routes, and what every request has to pass.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State as Extract, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, StatusCode, Uri, uri::PathAndQuery},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use livekit_protocol::ListRoomsRequest;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use serde_json::json;
use sluice_rooms::{ApiAnswer, ApiCall, Command, SocketId};
use sluice_signal::{
    Claims, ConnectParams, frame,
    grants::{check_identity, check_room},
};
use tokio::sync::oneshot;
use tower_http::cors::CorsLayer;

use crate::{
    actor::Input,
    request::{State, bearer, refuse},
    socket, twirp, web,
};

/// Life of the page's tokens in development mode.
const DEV_TOKEN_LIFE: Duration = Duration::from_secs(6 * 3600);

/// A WebSocket message above [`frame::MESSAGE_BYTES_MAX`] is read this far, so that the close frame can name the reason;
/// beyond it the connection just ends.
const SOCKET_BYTES_MAX: usize = 2 * frame::MESSAGE_BYTES_MAX;

/// Installs the recorder of this process' metrics; none where a second server runs in one process (tests).
pub(crate) fn recorder() -> Option<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().ok()
}

/// The whole HTTP side. Doubled slashes in a path are taken for one, as LiveKit's clients join URLs that way.
pub(crate) fn service(state: Arc<State>) -> Router {
    let mut routes = Router::new()
        .route("/", get(web::page))
        .route("/rtc", any(rtc))
        .route("/rtc/validate", any(validate))
        .route("/rtc/v1", any(absent))
        .route("/rtc/v1/validate", any(absent))
        .route("/twirp/{service}/{method}", post(twirp::call))
        .route("/metrics", get(metrics));
    if state.development {
        routes = routes.route("/dev/token", post(dev_token));
    }
    let routes = routes.fallback(web::page).with_state(state).layer(CorsLayer::very_permissive());
    Router::new().fallback(move |request: Request| {
        let mut routes = routes.clone();
        async move { tower::Service::call(&mut routes, single_slashes(request)).await }
    })
}

fn single_slashes(mut request: Request<Body>) -> Request<Body> {
    if !request.uri().path().contains("//") {
        return request;
    }
    let mut path = String::with_capacity(request.uri().path().len());
    for character in request.uri().path().chars() {
        if character != '/' || !path.ends_with('/') {
            path.push(character);
        }
    }
    if let Some(query) = request.uri().query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = request.uri().clone().into_parts();
    if let Ok(path) = path.parse::<PathAndQuery>() {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Single peer connection is not served yet: exactly 404 makes clients fall back to `/rtc`.
async fn absent() -> Response {
    refuse(StatusCode::NOT_FOUND, "not served here: use /rtc")
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> Response {
    match &state.metrics {
        Some(handle) => handle.render().into_response(),
        None => refuse(StatusCode::NOT_FOUND, "no metrics are recorded in this process"),
    }
}

/// A join that passed all checks.
struct Admission {
    room: String,
    claims: Box<Claims>,
    params: Box<ConnectParams>,
}

async fn rtc(
    Extract(state): Extract<Arc<State>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return refuse(StatusCode::NOT_FOUND, "a WebSocket is served here: ask with an upgrade");
    };
    let Admission { room, claims, params } = match admit(&state, &uri, &headers).await {
        Ok(admission) => admission,
        Err(refusal) => return refusal,
    };
    let socket = SocketId(state.next_socket.fetch_add(1, Ordering::Relaxed));
    let connect = Command::Connect { socket, room, claims, params };
    let inbox = state.inbox.clone();
    upgrade
        .max_message_size(SOCKET_BYTES_MAX)
        .max_frame_size(SOCKET_BYTES_MAX)
        .on_upgrade(move |stream| socket::serve(stream, socket, connect, inbox))
}

async fn validate(Extract(state): Extract<Arc<State>>, uri: Uri, headers: HeaderMap) -> Response {
    match admit(&state, &uri, &headers).await {
        Ok(_) => "success".into_response(),
        Err(refusal) => refusal,
    }
}

/// Everything that can be said about a join before the WebSocket opens.
async fn admit(state: &State, uri: &Uri, headers: &HeaderMap) -> Result<Admission, Response> {
    let query = uri.query().unwrap_or_default();
    let parsed = ConnectParams::parse(query);
    let in_query = parsed.as_ref().ok().and_then(|params| params.access_token.clone());
    let token = bearer(headers).map(str::to_owned).or(in_query).or_else(|| query_token(query));
    let (_, claims) = state
        .keys
        .verify::<Claims>(&token.unwrap_or_default())
        .map_err(|error| refuse(StatusCode::UNAUTHORIZED, &error.to_string()))?;
    let params = parsed.map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let grant = claims.video.clone().unwrap_or_default();
    if !grant.room_join {
        return Err(refuse(StatusCode::FORBIDDEN, "the token does not permit to join: set video.roomJoin"));
    }
    check_room(&grant.room).map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
    check_identity(&claims.sub).map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
    if !ready(state).await {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "no media node is linked yet: try again in a moment"));
    }
    if !state.auto_create && !exists(state, &grant.room).await {
        return Err(refuse(StatusCode::NOT_FOUND, "requested room does not exist"));
    }
    Ok(Admission { room: grant.room, claims: Box::new(claims), params: Box::new(params) })
}

/// The token of a query whose other parameters may be wrong: who is not authenticated is told that first.
fn query_token(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| pair.strip_prefix("access_token=")).map(str::to_owned)
}

async fn ready(state: &State) -> bool {
    let (answer, ready) = oneshot::channel();
    state.inbox.send(Input::Ready(answer)).await.is_ok() && ready.await.unwrap_or(false)
}

async fn exists(state: &State, room: &str) -> bool {
    let (answer, rooms) = oneshot::channel();
    let call = ApiCall::ListRooms(ListRoomsRequest { names: vec![room.to_owned()] });
    if state.inbox.send(Input::Api { call: Box::new(call), answer }).await.is_err() {
        return false;
    }
    matches!(rooms.await, Ok(Ok(ApiAnswer::Rooms(rooms))) if !rooms.rooms.is_empty())
}

#[derive(Deserialize)]
struct DevTokenRequest {
    room: String,
    name: String,
    identity: Option<String>,
}

/// A token for everybody who can reach this server, which is why this exists in development mode only.
async fn dev_token(Extract(state): Extract<Arc<State>>, Json(wanted): Json<DevTokenRequest>) -> Response {
    let fault = |reason: String| (StatusCode::BAD_REQUEST, Json(json!({ "error": reason }))).into_response();
    let identity = wanted.identity.filter(|identity| !identity.is_empty()).unwrap_or_else(|| wanted.name.clone());
    if let Err(error) = check_room(&wanted.room).and_then(|()| check_identity(&identity)) {
        return fault(error.to_string());
    }
    let Some((key, _)) = state.keys.first() else { return fault("this server has no API key".into()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": key,
        "sub": identity,
        "name": wanted.name,
        "nbf": now.as_secs(),
        "exp": (now + DEV_TOKEN_LIFE).as_secs(),
        "video": { "room": wanted.room, "roomJoin": true, "canUpdateOwnMetadata": true },
    });
    match state.keys.sign(key, &claims) {
        Some(token) => Json(json!({ "token": token, "url": null, "identity": identity })).into_response(),
        None => fault("the token cannot be signed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_slashes_are_one() {
        let check = |uri: &str, expected: &str| {
            let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            assert_eq!(single_slashes(request).uri().to_string(), expected);
        };
        check("//rtc//validate?access_token=a//b", "/rtc/validate?access_token=a//b");
        check("/rtc", "/rtc");
    }
}
