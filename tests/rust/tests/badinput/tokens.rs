//! Tokens, names and parameters of a join: refused before a WebSocket opens, in words.

use std::net::SocketAddr;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sluice_tests::{
    process::{Server, now_s, sign, sign_with, token},
    signal::QUERY,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};

const ORIGIN: &str = "https://elsewhere.example";

/// Status, text, and the origin that may read them.
type Refusal = (u16, String, Option<String>);

async fn get(http: SocketAddr, target: &str) -> anyhow::Result<Refusal> {
    let url = format!("http://{http}{target}");
    let response = reqwest::Client::new().get(url).header("origin", ORIGIN).send().await?;
    let allowed = response.headers().get("access-control-allow-origin").map(|value| value.to_str().map(str::to_owned));
    let status = response.status().as_u16();
    Ok((status, response.text().await?, allowed.transpose()?))
}

/// What a WebSocket client sees.
async fn upgrade(http: SocketAddr, target: &str) -> anyhow::Result<Refusal> {
    let mut request = format!("ws://{http}{target}").into_client_request()?;
    request.headers_mut().insert("origin", ORIGIN.parse()?);
    match connect_async(request).await {
        Err(Error::Http(response)) => {
            let (parts, body) = response.into_parts();
            let allowed =
                parts.headers.get("access-control-allow-origin").map(|value| value.to_str().map(str::to_owned));
            let text = String::from_utf8(body.unwrap_or_default())?;
            Ok((parts.status.as_u16(), text, allowed.transpose()?))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok((101, String::new(), None)),
    }
}

/// `/rtc` and `/rtc/validate` refuse with this status, saying this.
async fn check(http: SocketAddr, query: &str, status: u16, says: &str) -> anyhow::Result<()> {
    let short: String = query.chars().take(200).collect();
    for refusal in [get(http, &format!("/rtc/validate?{query}")).await?, upgrade(http, &format!("/rtc?{query}")).await?]
    {
        let (got, text, allowed) = &refusal;
        assert_eq!(*got, status, "{short}: {text}");
        assert!(text.contains(says), "{short}: {text:?} does not say {says:?}");
        assert!(text.lines().count() == 1 && text.len() < 300, "{short}: one sentence for a person, not {text:?}");
        assert_eq!(allowed.as_deref(), Some(ORIGIN), "{short}: a page of another origin can read why");
    }
    Ok(())
}

fn query(token: &str) -> String {
    format!("access_token={token}&{QUERY}")
}

fn claims(more: &Value) -> Value {
    let mut claims = json!({
        "iss": "devkey", "sub": "ann", "exp": now_s() + 600, "video": { "room": "tokens", "roomJoin": true },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn a_token_that_proves_nothing_gets_401_with_the_reason() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let http = server.http;
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let good = sign(&claims(&json!({})));
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    // Every character but the last, whose low bits are not part of the signature.
    let (body, last) = signature.split_at(signature.len() - 1);
    let flipped = format!("{}{last}", body.chars().rev().collect::<String>());

    check(http, QUERY, 401, "no token was given").await?;
    check(http, &query(""), 401, "no token was given").await?;
    check(http, &query("nonsense"), 401, "not a JWT").await?;
    check(http, &query("a.b.c"), 401, "not a JWT").await?;
    check(http, &query(&format!("{head}.{flipped}")), 401, "signature does not match").await?;
    check(http, &query(&sign_with("guess", &claims(&json!({})))), 401, "signature does not match").await?;
    check(http, &query(&sign(&claims(&json!({ "iss": "theirkey" })))), 401, "\"theirkey\" is not an API key").await?;
    check(http, &query(&sign(&claims(&json!({ "exp": now_s() - 120 })))), 401, "has expired").await?;
    check(http, &query(&sign(&claims(&json!({ "nbf": now_s() + 300 })))), 401, "not valid yet").await?;
    for alg in ["none", "None", "HS384", "RS256"] {
        let body = part(claims(&json!({})));
        for signature in ["", signature] {
            let unsigned = format!("{}.{body}.{signature}", part(json!({ "alg": alg, "typ": "JWT" })));
            check(http, &query(&unsigned), 401, "HS256").await?;
        }
    }
    let mut endless = claims(&json!({}));
    endless.as_object_mut().expect("an object").remove("exp");
    check(http, &query(&sign(&endless)), 401, "lacks the claim \"exp\"").await?;
    let huge = sign(&claims(&json!({ "metadata": "x".repeat(40_000) })));
    check(http, &query(&huge[..huge.len() - 8]), 401, "").await?;

    // What is refused is the token, not the client.
    assert_eq!(get(http, &format!("/rtc/validate?{}", query(&good))).await?.0, 200);
    assert_eq!(upgrade(http, &format!("/rtc?{}", query(&good))).await?.0, 101);
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_room_or_identity_that_cannot_be_gets_400_with_the_reason() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let http = server.http;
    let room = |room: &str| query(&sign(&claims(&json!({ "video": { "room": room, "roomJoin": true } }))));
    let identity = |identity: &str| query(&sign(&claims(&json!({ "sub": identity }))));

    check(http, &room(""), 400, "room name is missing").await?;
    check(http, &room("   "), 400, "room name is missing").await?;
    check(http, &room(&"r".repeat(257)), 400, "at most 256").await?;
    check(http, &room("a\nb"), 400, "control character").await?;
    check(http, &room("a\u{0}"), 400, "control character").await?;
    check(http, &identity(""), 400, "identity is missing").await?;
    check(http, &identity(&"i".repeat(257)), 400, "at most 256").await?;
    check(http, &identity("a\u{7f}b"), 400, "control character").await?;
    let mut anonymous = claims(&json!({}));
    anonymous.as_object_mut().expect("an object").remove("sub");
    check(http, &query(&sign(&anonymous)), 400, "identity is missing").await?;
    let cannot_join = sign(&claims(&json!({ "video": { "room": "tokens" } })));
    check(http, &query(&cannot_join), 403, "roomJoin").await?;

    let longest = query(&token(&"r".repeat(256), &"i".repeat(256), json!({})));
    assert_eq!(get(http, &format!("/rtc/validate?{longest}")).await?.0, 200);
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn parameters_that_cannot_be_get_400_and_paths_are_forgiving() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let http = server.http;
    let token = token("paths", "ann", json!({}));
    let with = |more: &str| format!("access_token={token}&{more}");

    check(http, &with("protocol=12"), 400, "protocol 12 is too old").await?;
    check(http, &with(""), 400, "too old").await?;
    check(http, &with("protocol=many"), 400, "`protocol`").await?;
    check(http, &with("protocol=17&auto_subscribe=perhaps"), 400, "`auto_subscribe`").await?;
    check(http, &with("protocol=17&attributes=%25%25"), 400, "`attributes`").await?;
    check(http, &with("protocol=17&os=%ff"), 400, "`os`").await?;
    check(http, &with("protocol=17&join_request=CgA"), 400, "single peer connection").await?;
    // Who is not authenticated is told that first.
    check(http, "protocol=12&access_token=x", 401, "not a JWT").await?;

    // Clients join base URLs and paths with one slash too many.
    assert_eq!(get(http, &format!("//rtc//validate?{}", with("protocol=17"))).await?.0, 200);
    assert_eq!(upgrade(http, &format!("//rtc?{}", with("protocol=17"))).await?.0, 101);

    // Single peer connection: exactly 404, readable from other origins, or clients do not fall back.
    for target in ["/rtc/v1", "/rtc/v1/validate", "//rtc/v1/validate"] {
        for query in [with("protocol=17&join_request=CgA"), String::new()] {
            let (status, _, allowed) = get(http, &format!("{target}?{query}")).await?;
            assert_eq!((status, allowed.as_deref()), (404, Some(ORIGIN)), "{target}");
        }
    }
    let (status, text, allowed) = upgrade(http, &format!("/rtc/v1?{}", with("protocol=17&join_request=CgA"))).await?;
    assert_eq!((status, allowed.as_deref()), (404, Some(ORIGIN)));
    assert!(!text.contains("requested room does not exist"), "clients take that for a missing room: {text}");
    // Without an upgrade there is nothing at /rtc.
    assert_eq!(get(http, &format!("/rtc?{}", with("protocol=17"))).await?.0, 404);
    server.healthy()?;
    Ok(())
}
