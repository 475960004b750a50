//! When a session is asked for its next token, when it ends without one, and how many it may bring.

use std::time::Duration;

use syncline_protocol::{Grant, SessionId, Timestamp};
use tokio::time::Instant;

use crate::clock::Clock;

/// Longest time before the end of a token at which the last sessions are asked for another. The
/// first are asked at twice that time, so 1,000 sessions are three or four in a second.
const NOTICE_MAX: Duration = Duration::from_secs(300);

/// Shortest time between two questions.
const REMINDER: Duration = Duration::from_secs(1);

/// Tokens that a session may bring at once; one more for each second since. Every token is verified
/// before anything else is known of it.
const TOKENS_MAX: u32 = 10;

/// Far beyond any process's life, and still within what a timer can hold.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The clockwork of one session's tokens.
#[derive(Debug)]
pub(crate) struct TokenRefresh {
    session: SessionId,
    ends_at: Instant,
    /// None for a client that would not understand the question.
    ask_at: Option<Instant>,
    /// Whether `next` is another moment than it was.
    changed: bool,
    /// Tokens that may be brought, as counted at the last one.
    tokens: u32,
    brought_at: Instant,
}

impl TokenRefresh {
    /// For a session that was just granted something. `asks`: its client understands the question.
    pub(crate) fn new(session: SessionId, grant: &Grant, clock: &Clock, asks: bool) -> Self {
        let (now, time) = (Instant::now(), clock.now());
        let mut renewal = Self {
            session,
            ends_at: now,
            ask_at: asks.then_some(now),
            changed: false,
            tokens: TOKENS_MAX,
            brought_at: now,
        };
        renewal.follow(grant, now, time);
        renewal
    }

    /// Another grant holds from here on.
    pub(crate) fn granted(&mut self, grant: &Grant, clock: &Clock) {
        self.follow(grant, Instant::now(), clock.now());
    }

    fn follow(&mut self, grant: &Grant, now: Instant, time: Timestamp) {
        let until = |at: Timestamp| Duration::from_millis((at - time).0).min(FOREVER);
        self.ends_at = now + until(grant.ends_at());
        let left = until(grant.expires_at);
        let notice = (left / 4).min(NOTICE_MAX);
        let notice = notice + notice.mul_f64(spread(self.session));
        // Whoever answers every question is within the rate of tokens.
        let ask_at = now + left.saturating_sub(notice).max(REMINDER);
        self.ask_at = self.ask_at.map(|_| ask_at);
        self.changed = true;
    }

    /// Whether `next` has changed since this was last asked.
    pub(crate) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When the session ends.
    pub(crate) fn ends_at(&self) -> Instant {
        self.ends_at
    }

    /// When there is something to do next.
    pub(crate) fn next(&self) -> Instant {
        self.ask_at.map_or(self.ends_at, |ask_at| ask_at.min(self.ends_at))
    }

    /// Whether it is time to ask; then the seconds that are left. Asked again until it is answered,
    /// and a little later if the session `is_greeted` not yet.
    pub(crate) fn ask(&mut self, now: Instant, is_greeted: bool) -> Option<u64> {
        self.ask_at.filter(|ask_at| now >= *ask_at)?;
        let left = self.ends_at.saturating_duration_since(now);
        let pause = if is_greeted { (left / 2).max(REMINDER) } else { REMINDER };
        self.ask_at = Some(now + pause);
        is_greeted.then_some(left.as_secs())
    }

    /// Whether another token may be looked at.
    pub(crate) fn takes_token(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.brought_at).as_secs();
        let earned = u32::try_from(seconds).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(TOKENS_MAX);
            self.brought_at = now;
        }
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }
}

/// A part of one that sessions in a row have as far from each other as can be.
fn spread(session: SessionId) -> f64 {
    // 2^64 divided by the golden ratio; the upper half is enough for a time.
    let mixed = session.get().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    f64::from(u32::try_from(mixed).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use syncline_protocol::{Access, PresenceRight};

    use super::*;

    fn grant(clock: &Clock, seconds: u64) -> Grant {
        Grant {
            access: Access::Write,
            presence: PresenceRight::Visible,
            identity: Arc::default(),
            expires_at: Timestamp::from_unix_ms(clock.now().as_unix_ms() + seconds * 1_000),
        }
    }

    fn renewal(session: u64, seconds: u64, asks: bool) -> (TokenRefresh, Instant) {
        let clock = Clock::start();
        let grant = grant(&clock, seconds);
        (TokenRefresh::new(SessionId::new(session), &grant, &clock, asks), Instant::now())
    }

    #[test]
    fn auth_8_sessions_are_asked_in_time_and_not_together() {
        for (seconds, within) in [(4, 1..=2), (600, 149..=300), (3_600, 299..=600)] {
            let mut asked = BTreeMap::new();
            for session in 1..=1_000 {
                let (renewal, now) = renewal(session, seconds, true);
                let left = seconds - (renewal.next() - now).as_secs();
                assert!(within.contains(&left), "{left} s before the end of {seconds} s");
                *asked.entry(left).or_insert(0) += 1;
            }
            let most = asked.values().max().unwrap();
            assert!(seconds < 600 || *most < 12, "{most} in one second");
        }
    }

    #[test]
    fn auth_8_a_question_is_asked_again_until_the_end() {
        let (mut renewal, now) = renewal(1, 3_600, true);
        let mut now = now;
        let mut lefts = Vec::new();
        while renewal.next() < renewal.ends_at() {
            now = renewal.next();
            assert_eq!(renewal.ask(now, false), None, "the question is not what it hears first");
            assert_eq!(renewal.next() - now, REMINDER);
            now = renewal.next();
            lefts.push(renewal.ask(now, true).unwrap());
            assert_eq!(renewal.ask(now, true), None, "once at a time");
        }
        assert!((4..12).contains(&lefts.len()), "{lefts:?}");
        assert!(lefts.is_sorted_by(|a, b| a > b), "{lefts:?}");
        assert!(renewal.ends_at() - now <= 2 * REMINDER);
    }

    #[test]
    fn auth_10_who_answers_every_question_is_within_the_rate() {
        let (mut renewal, _) = renewal(1, 0, true);
        let clock = Clock::start();
        let over = grant(&clock, 0);
        for _ in 0..100 {
            let now = renewal.next();
            assert!(renewal.ask(now, true).is_some());
            assert!(renewal.takes_token(now));
            renewal.follow(&over, now, clock.now());
        }
    }

    #[test]
    fn auth_8_who_does_not_understand_is_not_asked() {
        let (renewal, _) = renewal(1, 60, false);
        assert_eq!(renewal.next(), renewal.ends_at());
    }

    #[test]
    fn auth_10_tokens_are_taken_at_a_bounded_rate() {
        let (mut renewal, now) = renewal(1, 60, true);
        let taken =
            |renewal: &mut TokenRefresh, now| (0..50).filter(|_| renewal.takes_token(now)).count();
        assert_eq!(taken(&mut renewal, now), 10);
        assert_eq!(taken(&mut renewal, now + Duration::from_secs(3)), 3);
        assert_eq!(taken(&mut renewal, now + Duration::from_secs(3_600)), 10);
    }
}
