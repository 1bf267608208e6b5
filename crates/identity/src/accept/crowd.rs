//! Who may be in a handshake, or stay without a certificate, when not all can: a pure rule, so that one source can't keep
//! the others out.
//!
//! While there is room, everybody is let in. When there is none, a newcomer takes the place of the oldest of the source
//! that has the most, if that source has more than the newcomer's would have then; otherwise it takes the place of the
//! oldest of all, if that one has had its second; otherwise it is turned away. So a source alone may take all places,
//! and each of several gets its share as soon as it asks.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::time::Instant;

/// Where a connection comes from: an IPv4 address, or the /64 of an IPv6 address, in which one host has many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        }
    }
}

/// Those who are there, each with what ends its stay. Tickets grow, so the lowest is the oldest.
#[derive(Debug)]
pub(super) struct Crowd<H> {
    members: BTreeMap<u64, Member<H>>,
    by_source: HashMap<Source, usize>,
    size_max: usize,
    next_ticket: u64,
}

#[derive(Debug)]
struct Member<H> {
    source: Source,
    address: SocketAddr,
    since: Instant,
    handshake: H,
}

/// What becomes of a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<H> {
    Room,
    InPlaceOf { ticket: u64, handshake: H, address: SocketAddr },
    Full,
}

impl<H: Clone> Crowd<H> {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            members: BTreeMap::new(),
            by_source: HashMap::new(),
            size_max: size_max.max(1),
            next_ticket: 0,
        }
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(super) fn enter(
        &mut self,
        ticket: u64,
        source: Source,
        address: SocketAddr,
        since: Instant,
        handshake: H,
    ) {
        *self.by_source.entry(source).or_default() += 1;
        self.members.insert(ticket, Member { source, address, since, handshake });
    }

    pub(super) fn leave(&mut self, ticket: u64) {
        let Some(member) = self.members.remove(&ticket) else { return };
        if let Some(count) = self.by_source.get_mut(&member.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&member.source);
            }
        }
    }

    /// Those whose handshake is over, in whatever way.
    pub(super) fn leave_where(&mut self, over: impl Fn(&H) -> bool) {
        let over: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| over(&member.handshake))
            .map(|(ticket, _)| *ticket)
            .collect();
        over.into_iter().for_each(|ticket| self.leave(ticket));
    }

    pub(super) fn admit(&self, newcomer: Source, now: Instant, patience: Duration) -> Admission<H> {
        if self.members.len() < self.size_max {
            return Admission::Room;
        }
        let own = self.by_source.get(&newcomer).copied().unwrap_or(0);
        let largest = self.by_source.iter().max_by_key(|(source, count)| (**count, **source));
        let oldest = match largest {
            Some((source, count)) if *count > own + 1 => {
                self.members.iter().find(|(_, member)| member.source == *source)
            }
            _ => {
                self.members.iter().next().filter(|(_, member)| now.duration_since(member.since) >= patience)
            }
        };
        match oldest {
            None => Admission::Full,
            Some((ticket, member)) => Admission::InPlaceOf {
                ticket: *ticket,
                handshake: member.handshake.clone(),
                address: member.address,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    const SIZE: usize = 8;

    fn source(number: u8) -> (Source, SocketAddr) {
        let address = SocketAddr::from(([10, 0, 0, number], 1));
        (Source::of(address.ip()), address)
    }

    /// Lets one more in, as the door does. Whether it got in.
    fn arrive(crowd: &mut Crowd<()>, number: u8, now: Instant) -> bool {
        let (source, address) = source(number);
        match crowd.admit(source, now, PATIENCE) {
            Admission::Room => {}
            Admission::InPlaceOf { ticket, .. } => crowd.leave(ticket),
            Admission::Full => return false,
        }
        let ticket = crowd.ticket();
        crowd.enter(ticket, source, address, now, ());
        true
    }

    #[test]
    fn addresses_of_one_host_are_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn a_source_alone_may_fill_the_place_and_is_then_served_in_turn() {
        let mut crowd = Crowd::new(SIZE);
        let start = Instant::now();
        assert!((0..SIZE).all(|_| arrive(&mut crowd, 1, start)));
        assert!(!arrive(&mut crowd, 1, start), "its own are young and not ended");
        assert!(arrive(&mut crowd, 1, start + PATIENCE), "the oldest had its second");
    }

    proptest! {
        /// However many connections the others hold, a source that has none gets in at once, unless each of the others
        /// has but one; and then after a second at most.
        #[test]
        fn nobody_is_kept_out(arrivals in proptest::collection::vec(1_u8..12, 0..64)) {
            let mut crowd = Crowd::new(SIZE);
            let start = Instant::now();
            for number in arrivals {
                arrive(&mut crowd, number, start);
                prop_assert!(crowd.members.len() <= SIZE);
                prop_assert_eq!(crowd.by_source.values().sum::<usize>(), crowd.members.len());
            }
            let crowded = crowd.by_source.values().any(|count| *count > 1);
            if crowded || crowd.members.len() < SIZE {
                prop_assert!(arrive(&mut crowd, 99, start));
            } else {
                prop_assert!(arrive(&mut crowd, 99, start + PATIENCE));
            }
        }
    }
}
