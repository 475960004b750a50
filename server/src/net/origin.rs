//! Origin check: the web pages that may connect. A browser names the page in the header `Origin`; other
//! programs send none.
//!
//! A page that presents a token of its own may come from any origin: having the token is the proof. A
//! cookie is sent by the browser for any page that asks, so with a cookie the page has to be of this
//! host, or listed.

use std::fmt;

use syncline_protocol::{Close, CloseCode};
use thiserror::Error;
use warp::http::{HeaderMap, Uri, header};

/// The list of origins that may connect. By default, any page that has a token of its own may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginPolicy {
    /// `*` is listed: any page that has a token of its own may connect.
    any: bool,
    list: Vec<Origin>,
}

/// The origin of a page, with its port even if that is the scheme's default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// A text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} in auth.origins is not an origin; write scheme://host or scheme://host:port, as in \
     https://app.example, or \"*\""
)]
pub struct OriginError {
    /// The text.
    pub text: String,
}

/// How a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// By the page or program itself.
    Own,
    /// By the browser, for any page.
    Cookie,
}

/// The page of a request.
enum Page {
    None,
    /// A page without an origin, such as a file.
    Opaque,
    At(Origin),
}

impl OriginPolicy {
    /// Reads a list of origins; `*` in it stands for all.
    ///
    /// # Errors
    /// The first entry that is not an origin.
    pub fn parse(texts: &[String]) -> Result<Self, OriginError> {
        let mut origins = Self::default();
        for text in texts {
            if text == "*" {
                origins.any = true;
            } else {
                let origin = Origin::parse(text).ok_or(OriginError { text: text.clone() })?;
                origins.list.push(origin);
            }
        }
        Ok(origins)
    }

    /// # Errors
    /// If the page may not use a token sent by `carrier`.
    pub(crate) fn check(&self, headers: &HeaderMap, carrier: Carrier) -> Result<(), Close> {
        let blocked = |text: String| Err(Close::new(CloseCode::OriginBlocked, text));
        let page = page(headers)?;
        let listed = matches!(&page, Page::At(origin) if self.lists(origin, headers));
        match (carrier, page) {
            _ if listed => Ok(()),
            (Carrier::Own, Page::None) => Ok(()),
            (Carrier::Own, _) if self.any || self.list.is_empty() => Ok(()),
            (Carrier::Cookie, Page::None) => {
                blocked("a cookie counts only with an Origin header; send the token itself".into())
            }
            (_, Page::Opaque) => {
                blocked("the page has no origin; auth.origins lists who may connect".into())
            }
            (Carrier::Own, Page::At(origin)) => blocked(format!("{origin} is not in auth.origins")),
            (Carrier::Cookie, Page::At(origin)) => blocked(format!(
                "{origin} is another host and not in auth.origins, so the cookie does not count"
            )),
        }
    }

    /// The value of `Access-Control-Allow-Origin` for a request, if it gets one.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<String> {
        if self.any || self.list.is_empty() {
            return Some("*".to_owned());
        }
        match page(headers) {
            Ok(Page::At(origin)) if self.lists(&origin, headers) => Some(origin.to_string()),
            _ => None,
        }
    }

    /// Whether a page is listed, or of the request's own host.
    fn lists(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // Behind a TLS proxy the scheme is unknown here, so the page's is used.
        let own = host.and_then(|host| Origin::parse(&format!("{}://{host}", origin.scheme)));
        own.as_ref() == Some(origin) || self.list.contains(origin)
    }
}

fn page(headers: &HeaderMap) -> Result<Page, Close> {
    let mut values = headers.get_all(header::ORIGIN).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        if headers.contains_key(header::ORIGIN) {
            return Err(Close::new(CloseCode::OriginBlocked, "there are two Origin headers"));
        }
        return Ok(Page::None);
    };
    let origin = value.to_str().ok().and_then(Origin::parse);
    Ok(origin.map_or(Page::Opaque, Page::At))
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        // A host and a port only: a path would never be compared.
        if authority.as_str() != rest || rest.contains('@') {
            return None;
        }
        let port = match (authority.port_u16(), &*scheme.to_ascii_lowercase()) {
            (Some(port), _) => port,
            (None, "http") => 80,
            (None, "https") => 443,
            (None, _) => 0,
        };
        let host = authority.host().to_ascii_lowercase();
        Some(Self { scheme: scheme.to_ascii_lowercase(), host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (&*self.scheme, self.port) {
            ("http", 80) | ("https", 443) | (_, 0) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

    use super::*;

    fn policy(list: &[&str]) -> OriginPolicy {
        OriginPolicy::parse(&list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn request(origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("docs.example"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    fn admits(list: &[&str], carrier: Carrier, origin: Option<&str>) -> bool {
        let checked = policy(list).check(&request(origin), carrier);
        if let Err(close) = &checked {
            assert_eq!(close.code, CloseCode::OriginBlocked);
        }
        checked.is_ok()
    }

    #[test]
    fn origin_1_a_list_restricts_pages_with_their_own_token() {
        let own = |list, origin| admits(list, Carrier::Own, origin);
        for origin in [None, Some("https://evil.example"), Some("null"), Some("nonsense")] {
            assert!(own(&[], origin), "{origin:?}");
            assert!(own(&["*"], origin), "{origin:?}");
            assert!(own(&["*", "https://app.example"], origin), "{origin:?}");
        }
        let list = &["https://app.example", "http://LOCALHOST:5173", "https://b.example:443"];
        for good in [
            None,
            Some("https://app.example"),
            Some("https://APP.example:443"),
            Some("http://localhost:5173"),
            Some("https://b.example"),
            Some("https://docs.example"),
            Some("http://docs.example"),
        ] {
            assert!(own(list, good), "{good:?}");
        }
        for bad in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://evil.example/https://app.example",
            "https://app.example@evil.example",
            "https://evilapp.example",
            "http://localhost",
            "https://docs.example:444",
            "null",
            "",
            "*",
        ] {
            assert!(!own(list, Some(bad)), "{bad:?}");
        }
    }

    #[test]
    fn origin_2_a_cookie_counts_for_this_host_and_listed_pages() {
        let cookie = |list, origin| admits(list, Carrier::Cookie, origin);
        assert!(cookie(&[], Some("https://docs.example")));
        assert!(cookie(&["https://app.example"], Some("https://app.example")));
        for list in [&[][..], &["*"], &["https://app.example"]] {
            for bad in [
                None,
                Some("null"),
                Some("https://evil.example"),
                Some("https://docs.example.evil.example"),
                Some("https://docs.example:1"),
            ] {
                assert!(!cookie(list, bad), "{list:?} {bad:?}");
            }
        }
        let mut twice = request(Some("https://docs.example"));
        twice.append(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(policy(&[]).check(&twice, Carrier::Cookie).is_err());
        assert!(policy(&[]).check(&twice, Carrier::Own).is_err());
    }

    #[test]
    fn origin_3_an_entry_is_a_scheme_a_host_and_perhaps_a_port() {
        for bad in ["app.example", "https://app.example/", "https://a@b", "https://", "", "**"] {
            let error = OriginPolicy::parse(&[bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("scheme://host"), "{error}");
        }
        assert!(OriginPolicy::parse(&["capacitor://localhost".to_owned()]).is_ok());
    }
}
