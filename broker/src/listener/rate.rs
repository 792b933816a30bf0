//! How often something may happen: for all together, and for each source of connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{AcceptConfig, Network};
use crate::limits::{ACCEPT_BURST_OF_SOURCE, ACCEPT_SOURCES};
use crate::told::source;

/// So many at once, and so many in each second after that.
///
/// What is kept of somebody is one point of time: until when the rate is used up. What happens moves it by an interval; as long as
/// it is not further ahead than a burst takes, more may happen. A point that has passed is as good as none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// `per_second` and `burst` are at least 1.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: interval * burst.saturating_sub(1) }
    }

    /// When the next one may happen; it may be past.
    pub(super) fn free_at(self, used_until: Instant) -> Instant {
        used_until.checked_sub(self.burst).unwrap_or(used_until)
    }

    /// Until when it is used up after one more has happened.
    pub(super) fn used(self, used_until: Instant, now: Instant) -> Instant {
        used_until.max(now) + self.interval
    }
}

/// The sources that have connected lately.
///
/// As many are kept as may be, twice: those seen since the table was last full, and those before. Of who was not seen in that
/// time nothing is known, and by then most have their whole burst again.
#[derive(Debug)]
pub(super) struct Sources {
    rate: Rate,
    unlimited: Vec<Network>,
    recent: HashMap<IpAddr, Instant>,
    older: HashMap<IpAddr, Instant>,
}

impl Sources {
    pub(super) fn new(config: &AcceptConfig) -> Self {
        let rate = Rate::new(config.per_second_and_source, ACCEPT_BURST_OF_SOURCE);
        let unlimited = config.unlimited_sources.clone();
        Self { rate, unlimited, recent: HashMap::new(), older: HashMap::new() }
    }

    /// Whether one more connection may come from there; if so it is counted.
    pub(super) fn admits(&mut self, peer: IpAddr, now: Instant) -> bool {
        let peer = peer.to_canonical();
        if self.unlimited.iter().any(|network| network.contains(peer)) {
            return true;
        }
        let source = source(peer);
        let known = self.recent.get(&source).or_else(|| self.older.get(&source));
        let used_until = known.copied().unwrap_or(now);
        let admitted = self.rate.free_at(used_until) <= now;
        self.remember(source, if admitted { self.rate.used(used_until, now) } else { used_until });
        admitted
    }

    fn remember(&mut self, source: IpAddr, used_until: Instant) {
        if self.recent.len() >= ACCEPT_SOURCES && !self.recent.contains_key(&source) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(source, used_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(per_second: u32) -> Sources {
        Sources::new(&AcceptConfig { per_second_and_source: per_second, ..AcceptConfig::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// How many of `tries` at one time are admitted.
    fn admitted(sources: &mut Sources, peer: &str, tries: u32, now: Instant) -> u32 {
        (0..tries).map(|_| u32::from(sources.admits(address(peer), now))).sum()
    }

    #[test]
    fn a_source_has_a_burst_and_then_its_rate_and_others_have_theirs() {
        let (mut sources, start) = (sources(20), Instant::now());
        let burst = ACCEPT_BURST_OF_SOURCE;
        assert_eq!(admitted(&mut sources, "192.0.2.1", burst, start), burst, "a thousand come back at once");
        assert_eq!(admitted(&mut sources, "192.0.2.1", 1, start), 0, "one more does not");
        assert_eq!(admitted(&mut sources, "192.0.2.2", 1, start), 1);
        let second = Duration::from_secs(1);
        assert_eq!(admitted(&mut sources, "192.0.2.1", 100, start + second), 20);
        assert_eq!(admitted(&mut sources, "192.0.2.1", 100, start + 2 * second), 20, "refused ones cost nothing");
        let rested = start + 2 * second + Duration::from_secs(u64::from(burst / 20));
        assert_eq!(admitted(&mut sources, "192.0.2.1", 2 * burst, rested), burst);
    }

    #[test]
    fn a_source_is_an_address_of_ipv4_or_64_bits_of_ipv6() {
        let (mut sources, start) = (sources(1), Instant::now());
        for (peers, others) in [
            (["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
            (["2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"], "2001:db8:0:1::1"),
        ] {
            assert_eq!(admitted(&mut sources, peers[0], 2_000, start), ACCEPT_BURST_OF_SOURCE);
            assert_eq!(admitted(&mut sources, peers[1], 1, start), 0, "{peers:?}");
            assert_eq!(admitted(&mut sources, others, 1, start), 1, "{others}");
        }
    }

    #[test]
    fn this_host_is_not_limited_unless_the_settings_say_so() {
        let (mut sources, start) = (sources(1), Instant::now());
        for peer in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(admitted(&mut sources, peer, 5_000, start), 5_000, "{peer}");
        }
        let mut strict = Sources::new(&AcceptConfig { unlimited_sources: Vec::new(), ..AcceptConfig::default() });
        assert_eq!(admitted(&mut strict, "127.0.0.1", 5_000, start), ACCEPT_BURST_OF_SOURCE);
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_forgets_the_oldest() {
        let (mut sources, start) = (sources(1), Instant::now());
        assert_eq!(admitted(&mut sources, "192.0.2.1", 2_000, start), ACCEPT_BURST_OF_SOURCE);
        let peer = |number: usize| IpAddr::from(u32::try_from(number).expect("few").to_be_bytes());
        for number in 0..3 * ACCEPT_SOURCES {
            assert!(sources.admits(peer(number + (10 << 24)), start));
            assert!(sources.recent.len() <= ACCEPT_SOURCES && sources.older.len() <= ACCEPT_SOURCES);
        }
        assert!(sources.admits(address("192.0.2.1"), start), "it is forgotten");
    }

    #[test]
    fn a_port_has_its_burst_and_then_its_rate() {
        let (rate, start) = (Rate::new(200, 2_000), Instant::now());
        let mut used_until = start;
        for _ in 0..2_000 {
            assert!(rate.free_at(used_until) <= start);
            used_until = rate.used(used_until, start);
        }
        assert_eq!(rate.free_at(used_until) - start, Duration::from_millis(5));
    }
}
