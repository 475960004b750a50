//! The login of the embedded pages: links that open once, and sessions of the browsers that opened one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use syncline_protocol::Access;
use thiserror::Error;

use crate::auth::{self, Claims, RandomError, Secret, Verifier};
use crate::sync::lock;

/// How long a browser's session lasts, and how long a link can be opened.
pub(crate) const SESSION: Duration = Duration::from_secs(12 * 60 * 60);

/// How long a page's token for one document lasts. The page asks for the next one by itself.
pub(crate) const TOKEN: Duration = Duration::from_secs(10 * 60);

/// Unopened links. Beyond it the oldest one is removed.
const LINKS_MAX: usize = 100;

/// Characters of a display name.
const NAME_CHARS_MAX: usize = 64;

/// Every document, in `access` of a token.
const EVERYTHING: &str = "*";

/// State of the login.
#[derive(Debug)]
pub struct Demo {
    /// Signs sessions. Without it, pages ask the user for a token.
    secret: Option<Secret>,
    links: Mutex<HashMap<String, Link>>,
}

#[derive(Debug)]
struct Link {
    access: BTreeMap<String, Access>,
    made: Instant,
}

/// Why a request of a page is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum DemoError {
    #[error("this server signs no tokens; paste one into the page")]
    NoSecret,
    #[error("this link has been opened before, or is older than 12 hours")]
    LinkUsed,
    #[error("this browser has not opened a link from the terminal")]
    NoSession,
    #[error("the link that this browser opened does not allow that")]
    Forbidden,
    #[error("nothing could be signed")]
    Sign,
}

/// A signed token.
#[derive(Debug)]
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) lasts: Duration,
}

impl Demo {
    /// A login that signs sessions with `secret`, if there is one.
    #[must_use]
    pub fn new(secret: Option<Secret>) -> Self {
        Self { secret, links: Mutex::default() }
    }

    /// The key of a link with admin access to every document.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn invite(&self) -> Result<String, RandomError> {
        self.link(EVERYTHING.to_owned(), Access::Admin)
    }

    fn link(&self, pattern: String, access: Access) -> Result<String, RandomError> {
        let key = auth::random_hex()?;
        let link = Link { access: BTreeMap::from([(pattern, access)]), made: Instant::now() };
        let mut links = lock(&self.links);
        if links.len() >= LINKS_MAX {
            let oldest = links.iter().min_by_key(|(_, link)| link.made);
            let oldest = oldest.map(|(key, _)| key.clone()).unwrap_or_default();
            links.remove(&oldest);
        }
        links.insert(key.clone(), link);
        Ok(key)
    }

    /// Opens a link, which then no longer exists. Returns the browser's session token.
    pub(crate) fn open(&self, key: &str) -> Result<Minted, DemoError> {
        // The map's hash is keyed, so the lookup leaks nothing about keys by its timing.
        let link = lock(&self.links).remove(key);
        let link = link.filter(|link| link.made.elapsed() < SESSION).ok_or(DemoError::LinkUsed)?;
        self.sign(link.access, None, SESSION)
    }

    /// The claims in a browser's cookie.
    pub(crate) fn session(
        &self,
        verifier: &Verifier,
        cookie: Option<&str>,
    ) -> Result<Claims, DemoError> {
        self.secret()?;
        cookie.and_then(|cookie| verifier.verify_offline(cookie).ok()).ok_or(DemoError::NoSession)
    }

    /// The key of a link to `document`, for another browser.
    pub(crate) fn share(
        &self,
        session: &Claims,
        document: &str,
        access: Access,
    ) -> Result<String, DemoError> {
        covers(session, Some(document), access)?;
        self.link(document.to_owned(), access).map_err(|_| DemoError::Sign)
    }

    /// A token for one document, or for all of them.
    pub(crate) fn token(
        &self,
        session: &Claims,
        document: Option<&str>,
        access: Access,
        name: Option<String>,
    ) -> Result<Minted, DemoError> {
        covers(session, document, access)?;
        let name = name.map(|name| name.chars().take(NAME_CHARS_MAX).collect());
        let pattern = document.unwrap_or(EVERYTHING).to_owned();
        self.sign(BTreeMap::from([(pattern, access)]), name, TOKEN)
    }

    fn sign(
        &self,
        access: BTreeMap<String, Access>,
        name: Option<String>,
        lasts: Duration,
    ) -> Result<Minted, DemoError> {
        let secret = self.secret()?;
        let exp = auth::unix_now().saturating_add(lasts.as_secs());
        let iat = Some(auth::unix_now());
        let claims = Claims { exp, iat, sub: name.clone(), name, access, ..Claims::default() };
        let token = auth::sign(secret, &claims).map_err(|_| DemoError::Sign)?;
        Ok(Minted { token, lasts })
    }

    fn secret(&self) -> Result<&Secret, DemoError> {
        self.secret.as_ref().ok_or(DemoError::NoSecret)
    }
}

fn covers(session: &Claims, document: Option<&str>, access: Access) -> Result<(), DemoError> {
    let held = match document.map(str::parse) {
        Some(Ok(document)) => session.access_to(&document),
        Some(Err(_)) => None,
        None => session.access.get(EVERYTHING).copied(),
    };
    if held.is_some_and(|held| held >= access) { Ok(()) } else { Err(DemoError::Forbidden) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> (Demo, Verifier) {
        auth::install_crypto();
        let secret = Secret::new(&[7; 32]).unwrap();
        (Demo::new(Some(secret.clone())), Verifier::hs256(&secret))
    }

    #[test]
    fn pages_1_a_link_opens_once() {
        let (demo, verifier) = demo();
        let key = demo.invite().unwrap();
        let opened = demo.open(&key).unwrap();
        assert!(demo.session(&verifier, Some(&opened.token)).is_ok());
        assert_eq!(demo.open(&key).unwrap_err(), DemoError::LinkUsed);
        assert_eq!(demo.open("").unwrap_err(), DemoError::LinkUsed);
    }

    #[test]
    fn pages_2_a_link_bounds_what_its_browser_gets_and_shares() {
        let (demo, verifier) = demo();
        let all = demo.open(&demo.invite().unwrap()).unwrap().token;
        let all = demo.session(&verifier, Some(&all)).unwrap();
        assert!(demo.token(&all, None, Access::Admin, None).is_ok());

        let key = demo.share(&all, "demo/a", Access::Read).unwrap();
        let reader = demo.session(&verifier, Some(&demo.open(&key).unwrap().token)).unwrap();
        let token = |document, access| demo.token(&reader, document, access, None).map(drop);
        assert_eq!(token(Some("demo/a"), Access::Read), Ok(()));
        assert_eq!(token(Some("demo/a"), Access::Write), Err(DemoError::Forbidden));
        assert_eq!(token(Some("demo/b"), Access::Read), Err(DemoError::Forbidden));
        assert_eq!(token(Some("demo//b"), Access::Read), Err(DemoError::Forbidden));
        assert_eq!(token(None, Access::Read), Err(DemoError::Forbidden));
        let share = demo.share(&reader, "demo/a", Access::Write);
        assert_eq!(share.unwrap_err(), DemoError::Forbidden);
    }

    #[test]
    fn pages_3_the_oldest_of_too_many_links_is_removed() {
        let (demo, _) = demo();
        let keys: Vec<String> = (0..=LINKS_MAX).map(|_| demo.invite().unwrap()).collect();
        assert_eq!(demo.open(&keys[0]).unwrap_err(), DemoError::LinkUsed);
        assert!(keys[1..].iter().all(|key| demo.open(key).is_ok()));
    }

    #[test]
    fn pages_4_without_a_secret_no_token_is_signed() {
        let demo = Demo::new(None);
        let key = demo.invite().unwrap();
        assert_eq!(demo.open(&key).unwrap_err(), DemoError::NoSecret);
    }
}
