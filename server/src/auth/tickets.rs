//! Tickets: random values that open one document once, within half a minute. For clients that can
//! put things in a URL and nowhere else, where others may read them later.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use syncline_protocol::{Close, CloseCode, DocumentName, Limit};
use tokio::time::Instant;

use crate::auth::{Claims, PresenceClaim, TokenError};
use crate::config::limits::{TICKET, TICKETS, TICKETS_OF_ONE};
use crate::sync::lock;

/// What every ticket begins with, so that one is known wherever it turns up.
pub(crate) const PREFIX: &str = "slt_";

/// 256 random bits: as many as the hash they are found by.
const RANDOM_BYTES: usize = 32;

/// A SHA-256. The ticket itself is not kept, and a table of hashes tells nothing by the time that a
/// search in it takes.
type Hash = [u8; 32];

/// The tickets that are not used yet.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tickets: HashMap<Hash, Ticket>,
    /// The same, the first to end in front.
    by_end: BTreeSet<(Instant, Hash)>,
    by_owner: HashMap<Hash, usize>,
}

#[derive(Debug)]
struct Ticket {
    document: DocumentName,
    claims: Claims,
    owner: Hash,
    ends: Instant,
}

impl Tickets {
    /// A ticket for `document` with the rights that `claims` have there, and no longer than those.
    /// `token`: what they were read from; who has no `sub` is told apart by it.
    pub(crate) fn issue(
        &self,
        document: &DocumentName,
        mut claims: Claims,
        token: &str,
        now: Instant,
    ) -> Result<String, Close> {
        // Only what the ticket is for: patterns may take kilobytes.
        let grant = claims.grant(document).map_err(|error| error.close())?;
        claims.access = std::iter::once((document.as_str().to_owned(), grant.access)).collect();
        claims.presence = PresenceClaim::Everywhere(grant.presence);
        let owner = hash(claims.sub.as_deref().unwrap_or(token));
        let ticket = random()?;

        let mut state = self.state();
        state.drop_ended(now);
        let of_owner = state.by_owner.get(&owner).copied().unwrap_or(0);
        if of_owner >= TICKETS_OF_ONE {
            let text = format!("{of_owner} tickets of this user");
            return Err(full(Limit::TicketsPerUser, &text));
        }
        if state.tickets.len() >= TICKETS {
            return Err(full(Limit::Tickets, "all tickets that there may be"));
        }
        let (key, ends) = (hash(&ticket), now + TICKET);
        state.by_end.insert((ends, key));
        state.by_owner.insert(owner, of_owner + 1);
        state.tickets.insert(key, Ticket { document: document.clone(), claims, owner, ends });
        Ok(ticket)
    }

    /// Uses a ticket up: the claims for `document`, if it is for that. It is gone either way.
    pub(crate) fn redeem(
        &self,
        ticket: &str,
        document: &DocumentName,
        now: Instant,
    ) -> Result<Claims, TokenError> {
        let mut state = self.state();
        state.drop_ended(now);
        let found = state.take(&hash(ticket));
        drop(state);
        let found = found.ok_or(TokenError::Invalid {
            reason: "the ticket was used before, is older than 30 s, or is none",
        })?;
        if found.document != *document {
            let granted = vec![found.document.as_str().to_owned()];
            return Err(TokenError::Forbidden { asked: document.clone(), granted });
        }
        Ok(found.claims)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No critical section can leave it half changed.
        lock(&self.0)
    }
}

impl State {
    fn take(&mut self, key: &Hash) -> Option<Ticket> {
        let ticket = self.tickets.remove(key)?;
        self.by_end.remove(&(ticket.ends, *key));
        if let Some(count) = self.by_owner.get_mut(&ticket.owner) {
            *count -= 1;
            if *count == 0 {
                self.by_owner.remove(&ticket.owner);
            }
        }
        Some(ticket)
    }

    fn drop_ended(&mut self, now: Instant) {
        while let Some(&(ends, key)) = self.by_end.first()
            && ends <= now
        {
            self.take(&key);
        }
    }
}

fn hash(text: &str) -> Hash {
    let mut bytes = Hash::default();
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

fn random() -> Result<String, Close> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Close::new(CloseCode::Internal, format!("the system gives no random bytes: {error}"))
    })?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

fn full(limit: Limit, what: &str) -> Close {
    let text = format!("{what} are waiting to be used; each ends after {} s", TICKET.as_secs());
    Close::at_limit(limit, CloseCode::Overloaded, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn claims(sub: Option<&str>) -> Claims {
        let access = json!({ "notes/*": "write", "plan": "read" });
        serde_json::from_value(json!({ "exp": 7, "sub": sub, "access": access })).unwrap()
    }

    fn name(text: &str) -> DocumentName {
        text.parse().unwrap()
    }

    #[test]
    fn ticket_1_it_opens_its_document_once_with_the_right_of_the_token() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let today = name("notes/today");
        let ticket = tickets.issue(&today, claims(Some("ada")), "token", now).unwrap();
        assert!(ticket.starts_with(PREFIX) && ticket.len() == PREFIX.len() + 43);
        let redeemed = tickets.redeem(&ticket, &today, now).unwrap();
        assert_eq!((redeemed.exp, redeemed.sub.as_deref()), (7, Some("ada")));
        assert_eq!(redeemed.access.len(), 1);
        assert!(redeemed.access_to(&today).unwrap().may_write());
        let again = tickets.redeem(&ticket, &today, now).unwrap_err();
        assert!(again.to_string().contains("was used before"), "{again}");

        let ticket = tickets.issue(&name("plan"), claims(None), "token", now).unwrap();
        assert!(!tickets.redeem(&ticket, &name("plan"), now).unwrap().access.is_empty());
        let other = tickets.issue(&name("other"), claims(None), "token", now).unwrap_err();
        assert_eq!(other.code, CloseCode::ForbiddenDocument);
    }

    #[test]
    fn ticket_1_at_another_document_it_is_used_up_and_opens_nothing() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let today = name("notes/today");
        let ticket = tickets.issue(&today, claims(None), "token", now).unwrap();
        let error = tickets.redeem(&ticket, &name("plan"), now).unwrap_err();
        assert!(matches!(error, TokenError::Forbidden { .. }), "{error}");
        assert!(tickets.redeem(&ticket, &today, now).is_err());
    }

    #[test]
    fn ticket_2_it_ends_after_30_seconds() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let today = name("notes/today");
        let ticket = || tickets.issue(&today, claims(None), "token", now).unwrap();
        let (first, second) = (ticket(), ticket());
        let last = now + TICKET - Duration::from_millis(1);
        assert!(tickets.redeem(&first, &today, last).is_ok());
        assert!(tickets.redeem(&second, &today, now + TICKET).is_err());
        let state = tickets.state();
        assert!(state.tickets.is_empty() && state.by_end.is_empty() && state.by_owner.is_empty());
    }

    #[test]
    fn ticket_3_there_is_a_bound_for_each_user_and_for_all() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let today = name("notes/today");
        let issue =
            |sub: Option<&str>, token: &str, now| tickets.issue(&today, claims(sub), token, now);
        let first = issue(Some("ada"), "token", now).unwrap();
        for number in 1..TICKETS_OF_ONE {
            issue(Some("ada"), &format!("token {number}"), now).unwrap();
        }
        let refused = issue(Some("ada"), "another token", now).unwrap_err();
        assert_eq!(refused.code, CloseCode::Overloaded);
        assert!(refused.text.contains("of this user"), "{}", refused.text);
        // Others are not concerned, a used one makes room, and so does time.
        issue(Some("bob"), "token", now).unwrap();
        tickets.redeem(&first, &today, now).unwrap();
        issue(Some("ada"), "token", now).unwrap();
        issue(Some("ada"), "token", now + TICKET).unwrap();

        let tickets = Tickets::default();
        for number in 0..TICKETS {
            tickets.issue(&today, claims(None), &number.to_string(), now).unwrap();
        }
        let refused = tickets.issue(&today, claims(None), "one more", now).unwrap_err();
        assert!(refused.text.contains("all tickets"), "{}", refused.text);
        assert_eq!(refused.limit, Some(Limit::Tickets));
    }
}
