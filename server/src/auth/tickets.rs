//! Tickets: random values that open one document once, within half a minute. For clients that can send
//! a credential only in a URL, where it may be logged.

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

/// The prefix of every ticket, by which leaked ones can be found.
pub(crate) const PREFIX: &str = "slt_";

/// 256 random bits, as many as the hash has.
const RANDOM_BYTES: usize = 32;

/// A SHA-256. The ticket itself is not kept, and looking a hash up leaks nothing about it by its timing.
type Hash = [u8; 32];

/// The unused tickets.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<TicketTable>);

#[derive(Debug, Default)]
struct TicketTable {
    tickets: HashMap<Hash, Ticket>,
    /// The same, ordered by expiry.
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
    /// Issues a ticket for `document` with the rights that `claims` give there, and no longer than those.
    /// Without a `sub`, `token` identifies the owner.
    ///
    /// # Errors
    /// If the claims give no rights there, or a bound on tickets is reached.
    pub(crate) fn issue(
        &self,
        document: &DocumentName,
        mut claims: Claims,
        token: &str,
        now: Instant,
    ) -> Result<String, Close> {
        // Keep only the rights in this document: patterns may take kilobytes.
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

    /// Redeems a ticket: the claims for `document`. The ticket is used up either way.
    ///
    /// # Errors
    /// If there is no such ticket, or it is for another document.
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
            reason: "the ticket was used before, is older than 30 s, or does not exist",
        })?;
        if found.document != *document {
            let granted = vec![found.document.as_str().to_owned()];
            return Err(TokenError::Forbidden { asked: document.clone(), granted });
        }
        Ok(found.claims)
    }

    fn state(&self) -> MutexGuard<'_, TicketTable> {
        lock(&self.0)
    }
}

impl TicketTable {
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
    fn ticket_1_a_ticket_opens_its_document_once() {
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
    fn ticket_1_another_document_uses_a_ticket_up() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let today = name("notes/today");
        let ticket = tickets.issue(&today, claims(None), "token", now).unwrap();
        let error = tickets.redeem(&ticket, &name("plan"), now).unwrap_err();
        assert!(matches!(error, TokenError::Forbidden { .. }), "{error}");
        assert!(tickets.redeem(&ticket, &today, now).is_err());
    }

    #[test]
    fn ticket_2_a_ticket_expires_after_30_seconds() {
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
    fn ticket_3_tickets_are_bounded_per_user_and_in_all() {
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
        // The bound is per user; a redeemed ticket and an expired one no longer count.
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
