//! `sluice token`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::{cli::TokenOptions, config};

/// Prints a token to standard output.
pub fn run(options: &TokenOptions) -> anyhow::Result<()> {
    let file = config::read(options.config.as_deref())?;
    let mode = config::keys(&file)?;
    let mut video = Map::new();
    match (&options.room, &options.identity) {
        (Some(room), Some(_)) => {
            video.insert("roomJoin".into(), true.into());
            video.insert("room".into(), room.as_str().into());
        }
        (Some(room), None) if options.admin => drop(video.insert("room".into(), room.as_str().into())),
        _ if options.create => {}
        _ => {
            bail!("a token to join needs --room and --identity; one for the API needs --admin with --room, or --create")
        }
    }
    if options.admin {
        video.insert("roomAdmin".into(), true.into());
    }
    if options.create {
        video.insert("roomCreate".into(), true.into());
        video.insert("roomList".into(), true.into());
    }
    if options.listen_only {
        video.insert("canPublish".into(), false.into());
    }
    if options.hidden {
        video.insert("hidden".into(), true.into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let (key, _) = &mode.first;
    let mut claims = json!({
        "iss": key,
        "nbf": now.as_secs(),
        "exp": (now + Duration::from_secs(options.valid_for * 60)).as_secs(),
        "video": Value::Object(video),
    });
    if let Some(identity) = &options.identity {
        claims["sub"] = identity.as_str().into();
        claims["name"] = options.name.as_deref().unwrap_or(identity).into();
    }
    match mode.keys.sign(key, &claims) {
        Some(token) => println!("{token}"),
        None => bail!("the token cannot be signed"),
    }
    Ok(())
}
