//! Token refresh: when a session is asked for its next token, when it ends without one, and the rate at
//! which it may send tokens.

use std::time::Duration;

use syncline_protocol::{Grant, SessionId, Timestamp};
use tokio::time::Instant;

use crate::clock::Clock;

/// Longest time before the end of a token at which the last sessions are asked for another. The
/// first are asked at twice that time, so 1,000 sessions are three or four in a second.
const NOTICE_MAX: Duration = Duration::from_secs(300);

/// Shortest time between two questions.
const REMINDER: Duration = Duration::from_secs(1);

/// Tokens that a session may send at once; one more for each second since. Each costs a verification,
/// whether or not it is valid.
const TOKENS_MAX: u32 = 10;

/// Far beyond any process's life, and still within what a timer can hold.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The timers and the rate of one session's tokens.
#[derive(Debug)]
pub(crate) struct TokenRefresh {
    session: SessionId,
    ends_at: Instant,
    /// `None` for a dialect without the question.
    ask_at: Option<Instant>,
    /// Whether `next` has changed.
    changed: bool,
    /// Tokens that may be sent, as of `counted_at`.
    tokens: u32,
    counted_at: Instant,
}

impl TokenRefresh {
    /// For a session whose grant begins now. `asks`: its dialect has the question.
    pub(crate) fn new(session: SessionId, grant: &Grant, clock: &Clock, asks: bool) -> Self {
        let (now, time) = (Instant::now(), clock.now());
        let mut refresh = Self {
            session,
            ends_at: now,
            ask_at: asks.then_some(now),
            changed: false,
            tokens: TOKENS_MAX,
            counted_at: now,
        };
        refresh.follow(grant, now, time);
        refresh
    }

    /// Sets the timers for a new grant.
    pub(crate) fn granted(&mut self, grant: &Grant, clock: &Clock) {
        self.follow(grant, Instant::now(), clock.now());
    }

    fn follow(&mut self, grant: &Grant, now: Instant, time: Timestamp) {
        let until = |at: Timestamp| Duration::from_millis((at - time).0).min(FOREVER);
        self.ends_at = now + until(grant.ends_at());
        let left = until(grant.expires_at);
        let notice = (left / 4).min(NOTICE_MAX);
        let notice = notice + notice.mul_f64(spread(self.session));
        // A client that answers every question stays within the rate of tokens.
        let ask_at = now + left.saturating_sub(notice).max(REMINDER);
        self.ask_at = self.ask_at.map(|_| ask_at);
        self.changed = true;
    }

    /// Whether [`next`](Self::next) has changed since the last call.
    pub(crate) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When the session ends without another token.
    pub(crate) fn ends_at(&self) -> Instant {
        self.ends_at
    }

    /// The next time to ask, or to end.
    pub(crate) fn next(&self) -> Instant {
        self.ask_at.map_or(self.ends_at, |ask_at| ask_at.min(self.ends_at))
    }

    /// The seconds left, if it is time to ask. The question is repeated until a token arrives, and put
    /// off while the session was not sent its Welcome (`is_welcomed`).
    pub(crate) fn ask(&mut self, now: Instant, is_welcomed: bool) -> Option<u64> {
        self.ask_at.filter(|ask_at| now >= *ask_at)?;
        let left = self.ends_at.saturating_duration_since(now);
        let pause = if is_welcomed { (left / 2).max(REMINDER) } else { REMINDER };
        self.ask_at = Some(now + pause);
        is_welcomed.then_some(left.as_secs())
    }

    /// Whether another token may be verified. Counts it.
    pub(crate) fn takes_token(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.counted_at).as_secs();
        let earned = u32::try_from(seconds).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(TOKENS_MAX);
            self.counted_at = now;
        }
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }
}

/// A number from 0 to 1, such that consecutive sessions have numbers far apart.
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

    fn refresh(session: u64, seconds: u64, asks: bool) -> (TokenRefresh, Instant) {
        let clock = Clock::start();
        let grant = grant(&clock, seconds);
        (TokenRefresh::new(SessionId::new(session), &grant, &clock, asks), Instant::now())
    }

    #[test]
    fn auth_8_sessions_are_asked_in_time_and_not_together() {
        for (seconds, within) in [(4, 1..=2), (600, 149..=300), (3_600, 299..=600)] {
            let mut asked = BTreeMap::new();
            for session in 1..=1_000 {
                let (refresh, now) = refresh(session, seconds, true);
                let left = seconds - (refresh.next() - now).as_secs();
                assert!(within.contains(&left), "{left} s before the end of {seconds} s");
                *asked.entry(left).or_insert(0) += 1;
            }
            let most = asked.values().max().unwrap();
            assert!(seconds < 600 || *most < 12, "{most} in one second");
        }
    }

    #[test]
    fn auth_8_a_question_is_asked_again_until_the_end() {
        let (mut refresh, now) = refresh(1, 3_600, true);
        let mut now = now;
        let mut lefts = Vec::new();
        while refresh.next() < refresh.ends_at() {
            now = refresh.next();
            assert_eq!(refresh.ask(now, false), None, "the question is not its first message");
            assert_eq!(refresh.next() - now, REMINDER);
            now = refresh.next();
            lefts.push(refresh.ask(now, true).unwrap());
            assert_eq!(refresh.ask(now, true), None, "once at a time");
        }
        assert!((4..12).contains(&lefts.len()), "{lefts:?}");
        assert!(lefts.is_sorted_by(|a, b| a > b), "{lefts:?}");
        assert!(refresh.ends_at() - now <= 2 * REMINDER);
    }

    #[test]
    fn auth_10_answers_to_every_question_stay_within_the_rate() {
        let (mut refresh, _) = refresh(1, 0, true);
        let clock = Clock::start();
        let over = grant(&clock, 0);
        for _ in 0..100 {
            let now = refresh.next();
            assert!(refresh.ask(now, true).is_some());
            assert!(refresh.takes_token(now));
            refresh.follow(&over, now, clock.now());
        }
    }

    #[test]
    fn auth_8_a_dialect_without_the_question_is_not_asked() {
        let (refresh, _) = refresh(1, 60, false);
        assert_eq!(refresh.next(), refresh.ends_at());
    }

    #[test]
    fn auth_10_tokens_are_taken_at_a_bounded_rate() {
        let (mut refresh, now) = refresh(1, 60, true);
        let taken =
            |refresh: &mut TokenRefresh, now| (0..50).filter(|_| refresh.takes_token(now)).count();
        assert_eq!(taken(&mut refresh, now), 10);
        assert_eq!(taken(&mut refresh, now + Duration::from_secs(3)), 3);
        assert_eq!(taken(&mut refresh, now + Duration::from_secs(3_600)), 10);
    }
}
