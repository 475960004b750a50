//! Which web pages may connect. A browser says which page it acts for, in the header `Origin`; other
//! programs say nothing.
//!
//! What a page is given by its application, it may carry from anywhere: to have the token is the
//! proof. A cookie is sent along by the browser whoever asks, so with a cookie the page has to be one
//! of this host's own, or one that is listed.

use std::fmt;

use syncline_protocol::{Close, CloseCode};
use thiserror::Error;
use warp::http::{HeaderMap, Uri, header};

/// Who may come: by default, every page that has a token of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Every page that has a token of its own, although there is a list.
    any: bool,
    list: Vec<Origin>,
}

/// Where a page comes from. The port is there even if it is the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// Why a text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} in auth.origins is no origin; write scheme://host or scheme://host:port, as in \
     https://app.example, or \"*\""
)]
pub struct OriginError {
    /// The text.
    pub text: String,
}

/// How a token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// By the page or program that asks.
    Own,
    /// By the browser, whoever asks.
    Cookie,
}

/// What a request says of its page.
enum Page {
    None,
    /// A page without an origin, such as a file.
    Opaque,
    At(Origin),
}

impl Origins {
    /// Reads a list of origins; `*` in it stands for all.
    ///
    /// # Errors
    /// The first that is none.
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

    /// Whether a request may use a token that came by `carrier`.
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

    /// What `Access-Control-Allow-Origin` says to a request, if anything.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<String> {
        if self.any || self.list.is_empty() {
            return Some("*".to_owned());
        }
        match page(headers) {
            Ok(Page::At(origin)) if self.lists(&origin, headers) => Some(origin.to_string()),
            _ => None,
        }
    }

    /// Whether a page is listed, or of the host that the request is for.
    fn lists(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // Behind a proxy that speaks TLS the scheme is not known here.
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
        // Nothing but a host and a port; a path would never be compared.
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

    fn origins(list: &[&str]) -> Origins {
        Origins::parse(&list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
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
        let checked = origins(list).check(&request(origin), carrier);
        if let Err(close) = &checked {
            assert_eq!(close.code, CloseCode::OriginBlocked);
        }
        checked.is_ok()
    }

    #[test]
    fn origin_1_a_token_of_its_own_comes_from_anywhere_unless_there_is_a_list() {
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
    fn origin_2_a_cookie_counts_on_pages_of_this_host_and_of_the_list() {
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
        assert!(origins(&[]).check(&twice, Carrier::Cookie).is_err());
        assert!(origins(&[]).check(&twice, Carrier::Own).is_err());
    }

    #[test]
    fn origin_3_an_entry_is_a_scheme_a_host_and_perhaps_a_port() {
        for bad in ["app.example", "https://app.example/", "https://a@b", "https://", "", "**"] {
            let error = Origins::parse(&[bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("scheme://host"), "{error}");
        }
        assert!(Origins::parse(&["capacitor://localhost".to_owned()]).is_ok());
    }
}
