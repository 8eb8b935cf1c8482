//! LiveKit's server API: Twirp over HTTP POST, protobuf or protojson bodies
//! (<https://twitchtv.github.io/twirp/docs/spec_v7.html>).

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State as Extract},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use livekit_protocol as proto;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use sluice_rooms::{ApiAnswer, ApiCall};
use sluice_signal::{Claims, VideoGrant};
use tokio::sync::oneshot;

use crate::{
    actor::Input,
    request::{State, bearer},
};

/// How a body is written; the answer comes in the same form.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Protobuf,
}

/// A Twirp error: code, HTTP status, message.
struct Fault {
    code: &'static str,
    status: StatusCode,
    message: String,
}

impl Fault {
    fn new(code: &'static str, status: StatusCode, message: impl Into<String>) -> Fault {
        Fault { code, status, message: message.into() }
    }

    fn denied(message: impl Into<String>) -> Fault {
        Fault::new("permission_denied", StatusCode::FORBIDDEN, message)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        metrics::counter!("sluice_api_refused_total", "code" => self.code).increment(1);
        let body = json!({ "code": self.code, "msg": self.message }).to_string();
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// `POST /twirp/<service>/<method>`.
pub(crate) async fn call(
    Extract(state): Extract<Arc<State>>,
    Path((service, method)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match serve(&state, &service, &method, &headers, &body).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn serve(
    state: &State,
    service: &str,
    method: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Fault> {
    let (_, claims) = state
        .keys
        .verify::<Claims>(bearer(headers).unwrap_or_default())
        .map_err(|error| Fault::new("unauthenticated", StatusCode::UNAUTHORIZED, error.to_string()))?;
    let grant = claims.video.unwrap_or_default();
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = match content.split(';').next().unwrap_or_default().trim() {
        "application/json" => Form::Json,
        "application/protobuf" => Form::Protobuf,
        other => {
            let message = format!("content type {other:?} is neither application/json nor application/protobuf");
            return Err(Fault::new("bad_route", StatusCode::NOT_FOUND, message));
        }
    };
    if service != "livekit.RoomService" {
        return Err(unknown(service, method));
    }
    let call = match method {
        "CreateRoom" => create(&grant).and_then(|()| read(form, body)).map(ApiCall::CreateRoom)?,
        "ListRooms" => {
            if !grant.room_list {
                return Err(Fault::denied("the token does not permit to list rooms: set video.roomList"));
            }
            ApiCall::ListRooms(read(form, body)?)
        }
        "DeleteRoom" => create(&grant).and_then(|()| read(form, body)).map(ApiCall::DeleteRoom)?,
        "ListParticipants" => admin(&grant, read(form, body)?, |r: &proto::ListParticipantsRequest| &r.room)
            .map(ApiCall::ListParticipants)?,
        "GetParticipant" => admin(&grant, read(form, body)?, |r: &proto::RoomParticipantIdentity| &r.room)
            .map(ApiCall::GetParticipant)?,
        "RemoveParticipant" => admin(&grant, read(form, body)?, |r: &proto::RoomParticipantIdentity| &r.room)
            .map(ApiCall::RemoveParticipant)?,
        "MutePublishedTrack" => admin(&grant, read(form, body)?, |r: &proto::MuteRoomTrackRequest| &r.room)
            .map(ApiCall::MutePublishedTrack)?,
        "UpdateParticipant" => admin(&grant, read(form, body)?, |r: &proto::UpdateParticipantRequest| &r.room)
            .map(ApiCall::UpdateParticipant)?,
        "UpdateSubscriptions" => admin(&grant, read(form, body)?, |r: &proto::UpdateSubscriptionsRequest| &r.room)
            .map(ApiCall::UpdateSubscriptions)?,
        "SendData" => admin(&grant, read(form, body)?, |r: &proto::SendDataRequest| &r.room).map(ApiCall::SendData)?,
        "UpdateRoomMetadata" => admin(&grant, read(form, body)?, |r: &proto::UpdateRoomMetadataRequest| &r.room)
            .map(ApiCall::UpdateRoomMetadata)?,
        _ => return Err(unknown(service, method)),
    };
    let unavailable = || Fault::new("unavailable", StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    let (answer, result) = oneshot::channel();
    state.inbox.send(Input::Api { call: Box::new(call), answer }).await.map_err(|_| unavailable())?;
    match result.await.map_err(|_| unavailable())? {
        Ok(answer) => answered(form, answer),
        Err(error) => {
            let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(Fault::new(error.code.name(), status, error.message))
        }
    }
}

fn create(grant: &VideoGrant) -> Result<(), Fault> {
    match grant.room_create {
        true => Ok(()),
        false => Err(Fault::denied("the token does not permit to create or delete rooms: set video.roomCreate")),
    }
}

/// Passes a request on if the token administers its room.
fn admin<R>(grant: &VideoGrant, request: R, room: impl Fn(&R) -> &String) -> Result<R, Fault> {
    if !grant.room_admin {
        return Err(Fault::denied("the token does not permit to administer rooms: set video.roomAdmin"));
    }
    if *room(&request) != grant.room {
        return Err(Fault::denied(format!(
            "the token administers room {:?}, not {:?}: video.room has to name it",
            grant.room,
            room(&request)
        )));
    }
    Ok(request)
}

fn unknown(service: &str, method: &str) -> Fault {
    const KNOWN: [&str; 12] = [
        "livekit.RoomService/PerformRpc",
        "livekit.RoomService/ForwardParticipant",
        "livekit.RoomService/MoveParticipant",
        "livekit.Egress",
        "livekit.Ingress",
        "livekit.SIP",
        "livekit.AgentDispatchService",
        "livekit.Connector",
        "livekit.PhoneNumberService",
        "livekit.CloudAgent",
        "livekit.AgentSimulation",
        "livekit.WhatsApp",
    ];
    let path = format!("{service}/{method}");
    match KNOWN.iter().any(|known| path == *known || service == *known) {
        true => Fault::new("unimplemented", StatusCode::NOT_IMPLEMENTED, format!("{path} is not served by Sluice")),
        false => Fault::new("bad_route", StatusCode::NOT_FOUND, format!("there is no {path}")),
    }
}

fn read<R: Message + Default + DeserializeOwned>(form: Form, body: &[u8]) -> Result<R, Fault> {
    let result = match form {
        Form::Protobuf => R::decode(body).map_err(|error| error.to_string()),
        Form::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
    };
    result
        .map_err(|error| Fault::new("malformed", StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))
}

fn answered(form: Form, answer: ApiAnswer) -> Result<Response, Fault> {
    match answer {
        ApiAnswer::Room(room) => write(form, &room),
        ApiAnswer::Rooms(rooms) => write(form, &rooms),
        ApiAnswer::Participant(participant) => write(form, &*participant),
        ApiAnswer::Participants(participants) => write(form, &participants),
        ApiAnswer::Muted(muted) => write(form, &*muted),
        ApiAnswer::Deleted(deleted) => write(form, &deleted),
        ApiAnswer::Removed(removed) => write(form, &removed),
        ApiAnswer::Subscriptions(subscriptions) => write(form, &subscriptions),
        ApiAnswer::Sent(sent) => write(form, &sent),
    }
}

fn write<A: Message + Serialize>(form: Form, answer: &A) -> Result<Response, Fault> {
    Ok(match form {
        Form::Protobuf => ([(header::CONTENT_TYPE, "application/protobuf")], answer.encode_to_vec()).into_response(),
        Form::Json => {
            let body = serde_json::to_string(answer)
                .map_err(|error| Fault::new("internal", StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
    })
}
