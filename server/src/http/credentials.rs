//! Where a request may carry a token or a ticket, and how neither ends up in a text.

use percent_encoding::percent_decode_str;
use warp::http::{HeaderMap, HeaderValue, header};

use crate::auth::{Credential, tickets};
use crate::net::origin::Carrier;

const COOKIE: &str = "syncline_token";

/// What begins a subprotocol that is a token.
pub(super) const BEARER_PROTOCOL: &str = "bearer.";

/// A ticket; else the first token found in header, subprotocol, cookie, query, in this order.
pub(super) fn credential(headers: &HeaderMap, query: &str) -> Option<(Credential, Carrier)> {
    if let Some(ticket) = ticket(query) {
        return Some((Credential::Ticket(ticket), Carrier::Own));
    }
    let by_page = bearer(headers).or_else(|| {
        offered_protocols(headers)
            .find_map(|offer| offer.strip_prefix(BEARER_PROTOCOL).map(str::to_owned))
    });
    let own = |token| (token, Carrier::Own);
    let token = by_page
        .map(own)
        .or_else(|| cookie(headers).map(|token| (token, Carrier::Cookie)))
        .or_else(|| parameter(query, "token").map(own));
    token
        .filter(|(token, _)| !token.is_empty())
        .map(|(token, carrier)| (Credential::Token(token), carrier))
}

/// The ticket in a query.
pub(super) fn ticket(query: &str) -> Option<String> {
    parameter(query, "ticket").filter(|ticket| !ticket.is_empty())
}

/// The token of the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION).and_then(bearer_in).map(str::to_owned)
}

/// The token in a value of the header `Authorization`.
pub(super) fn bearer_in(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = text(authorization)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers.get_all(header::COOKIE).into_iter().filter_map(text).find_map(|cookies| {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token.to_owned())
    })
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// The first value of a query parameter, decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

pub(super) fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(text)
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether a path holds a token or a ticket: somebody escaped the `?`, or wrote `&` for it. Such a
/// text is neither shown nor logged.
pub(super) fn holds_one(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    // `=` may be escaped, once or twice.
    let is_named = |name: &str| {
        lower.match_indices(name).any(|(at, _)| {
            let rest = lower.get(at + name.len()..).unwrap_or_default();
            ["=", "%3d", "%253d"].iter().any(|equals| rest.starts_with(equals))
        })
    };
    // `{"` in base64url, with which every header begins, and a dot at the end of that.
    let is_header = path.match_indices("eyJ").any(|(at, _)| {
        let rest = path.get(at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'));
        end.is_some_and(|end| {
            end >= 12 && rest.get(end..).is_some_and(|rest| rest.starts_with('.'))
        })
    });
    is_named("token") || is_named("ticket") || lower.contains(tickets::PREFIX) || is_header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_1_a_token_in_a_path_is_found() {
        for path in [
            "notes?token=abc",
            "notes&token=abc",
            "notes%3Ftoken%3Dabc",
            "notes%253Ftoken%253Dabc",
            "notes/ticket=abc",
            "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.AAAA",
            "a/eyJhbGciOiJIUzI1NiJ9.eyJleHAi",
            &format!("notes/{}AAAA", tickets::PREFIX),
        ] {
            assert!(holds_one(path), "{path}");
        }
        for path in ["notes/today", "tokens", "a/token/b", "ticket-7", "eyJafjalla.txt", ""] {
            assert!(!holds_one(path), "{path}");
        }
    }
}
