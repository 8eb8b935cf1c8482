//! Access tokens: HS256 JWTs signed with an API secret, as LiveKit's SDKs make them.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Serialize, de::DeserializeOwned};

/// Tokens longer than this are not looked at. Raising it lets larger metadata travel in tokens; lowering it bounds what a
/// stranger can make us parse.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Clocks of a back end and of this server may differ by this much.
const LEEWAY_S: u64 = 60;

/// API keys and their secrets.
#[derive(Clone, Default)]
pub struct Keys {
    secrets: BTreeMap<String, String>,
}

/// Why a token is refused. All are the caller's fault, and only a new token helps.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// no token was given
    #[error("no token was given: pass it as access_token or as an Authorization: Bearer header")]
    Missing,
    /// the token is not a JWT
    #[error("the token is not a JWT: it has to be three base64url parts with dots between them")]
    Malformed,
    /// the token is not signed with HS256
    #[error("the token is not signed with HS256, the only algorithm accepted")]
    Algorithm,
    /// unknown API key
    #[error("the token's issuer {0:?} is not an API key of this server")]
    UnknownKey(String),
    /// wrong signature
    #[error("the token's signature does not match the secret of API key {0:?}")]
    Signature(String),
    /// expired
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// not yet valid
    #[error("the token is not valid yet (nbf lies in the future): compare the clocks of both machines")]
    NotYet,
    /// a required claim is missing
    #[error("the token lacks the claim {0:?}")]
    Claim(String),
    /// claims have the wrong form
    #[error("the token's claims cannot be read: {0}")]
    Claims(String),
}

impl Keys {
    /// Keys from (key, secret) pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Keys {
        Keys { secrets: pairs.into_iter().collect() }
    }

    /// The first key in alphabetical order, used to sign what the server itself issues.
    pub fn first(&self) -> Option<(&str, &str)> {
        self.secrets.iter().next().map(|(key, secret)| (key.as_str(), secret.as_str()))
    }

    /// Verifies a token and returns its claims and the API key that signed it.
    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<(String, C), TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let header = unsigned_part(token, 0).ok_or(TokenError::Malformed)?;
        if header.get("alg").and_then(|alg| alg.as_str()) != Some("HS256") {
            return Err(TokenError::Algorithm);
        }
        let claims = unsigned_part(token, 1).ok_or(TokenError::Malformed)?;
        let issuer = claims.get("iss").and_then(|iss| iss.as_str()).ok_or_else(|| TokenError::Claim("iss".into()))?;
        let secret = self.secrets.get(issuer).ok_or_else(|| TokenError::UnknownKey(issuer.to_owned()))?;

        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp"]);
        match jsonwebtoken::decode::<C>(token, &DecodingKey::from_secret(secret.as_bytes()), &validation) {
            Ok(data) => Ok((issuer.to_owned(), data.claims)),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature => TokenError::Signature(issuer.to_owned()),
                ErrorKind::ExpiredSignature => TokenError::Expired,
                ErrorKind::ImmatureSignature => TokenError::NotYet,
                ErrorKind::MissingRequiredClaim(claim) => TokenError::Claim(claim.clone()),
                ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm => TokenError::Algorithm,
                ErrorKind::Base64(_) | ErrorKind::InvalidToken => TokenError::Malformed,
                _ => TokenError::Claims(error.to_string()),
            }),
        }
    }

    /// Signs claims with the secret of `key`; none if this server does not have that key.
    pub fn sign<C: Serialize>(&self, key: &str, claims: &C) -> Option<String> {
        let secret = self.secrets.get(key)?;
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).ok()
    }
}

/// A part of a token as JSON, before anything about it is believed.
fn unsigned_part(token: &str, index: usize) -> Option<serde_json::Value> {
    let mut parts = token.split('.');
    let part = parts.nth(index)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW_S: fn() -> u64 = jsonwebtoken::get_current_timestamp;

    fn keys() -> Keys {
        Keys::new([("devkey".to_owned(), "secret".to_owned())])
    }

    fn check(token: &str, expected: &str) {
        let error = keys().verify::<Value>(token).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }

    #[test]
    fn a_signed_token_is_accepted() {
        let token = keys().sign("devkey", &json!({"iss": "devkey", "sub": "ann", "exp": NOW_S() + 60})).unwrap();
        let (key, claims) = keys().verify::<Value>(&token).unwrap();
        assert_eq!((key.as_str(), claims["sub"].as_str()), ("devkey", Some("ann")));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let sign = |claims: Value| keys().sign("devkey", &claims).unwrap();
        check("", "no token was given");
        check("abc", "not a JWT");
        check(&sign(json!({"iss": "devkey", "exp": NOW_S() - 120})), "expired");
        check(&sign(json!({"iss": "devkey", "exp": NOW_S() + 600, "nbf": NOW_S() + 300})), "not valid yet");
        check(&sign(json!({"iss": "devkey"})), "lacks the claim \"exp\"");
        check(&sign(json!({"exp": NOW_S() + 60})), "lacks the claim \"iss\"");
        check(&sign(json!({"iss": "other", "exp": NOW_S() + 60})), "not an API key");
        let foreign = Keys::new([("devkey".to_owned(), "guess".to_owned())]);
        check(&foreign.sign("devkey", &json!({"iss": "devkey", "exp": NOW_S() + 60})).unwrap(), "signature");
    }

    #[test]
    fn a_token_without_signature_is_refused() {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = part(json!({"iss": "devkey", "exp": NOW_S() + 60}));
        check(&format!("{}.{claims}.", part(json!({"alg": "none", "typ": "JWT"}))), "HS256");
        check(&format!("{}.{claims}.", part(json!({"alg": "HS384"}))), "HS256");
    }
}
