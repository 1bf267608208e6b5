//! What goes wrong, to whom, when and for how long: a schedule that follows from one number, and its execution.
//!
//! A process is troubled by one thing at a time; several may be troubled at once. All of it is over within
//! [`LASTS_MAX`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngExt as _, rngs::StdRng};
use tokio::time::Instant;
use wasmatrix_model::{Clock as _, SystemClock, Timestamp};

use crate::{
    cluster::{Cluster, NODES, Who},
    net::Way,
};

/// Nothing lasts longer.
const LASTS_MAX: Duration = Duration::from_secs(9);
/// How long nothing goes wrong at the beginning.
const GRACE: Duration = Duration::from_secs(2);

/// What befalls somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `kill -9`; it is begun again.
    Kill,
    /// The same, of an etcd that comes back with nothing in it.
    KillAndEmpty,
    /// SIGSTOP, and SIGCONT.
    Freeze,
    /// Its wire is closed, and opened.
    Close(Way),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mishap {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) who: Who,
    pub(crate) what: What,
    pub(crate) lasts: Duration,
}

impl What {
    /// Its name, for those who count.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::KillAndEmpty => "kill -9 and nothing kept",
            Self::Freeze => "SIGSTOP",
            Self::Close(Way::Both) => "link cut",
            Self::Close(Way::In) => "link cut one way, in",
            Self::Close(Way::Out) => "link cut one way, out",
        }
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, who, what, lasts } = self;
        write!(f, "{:7.2} s  {who}: {}, for {:.2} s", at.as_secs_f64(), what.name(), lasts.as_secs_f64())
    }
}

/// All that will go wrong within that time, in order.
pub(crate) fn schedule(rng: &mut StdRng, time: Duration) -> Vec<Mishap> {
    let mut busy: BTreeMap<Who, Duration> = BTreeMap::new();
    let (mut all, mut at) = (Vec::new(), GRACE);
    while at < time {
        let (who, what) = draw(rng);
        let lasts = how_long(rng, what);
        if busy.get(&who).is_none_or(|until| *until < at) {
            // A moment of peace between two, or one would not be told from the other.
            busy.insert(who, at + lasts + Duration::from_secs(1));
            all.push(Mishap { at, who, what, lasts });
        }
        at += Duration::from_millis(rng.random_range(300..2500));
    }
    all
}

fn draw(rng: &mut StdRng) -> (Who, What) {
    match rng.random_range(0..20) {
        0..13 => {
            let what = match rng.random_range(0..10) {
                0..3 => What::Kill,
                3..5 => What::Freeze,
                5..8 => What::Close(Way::Both),
                8 => What::Close(Way::In),
                _ => What::Close(Way::Out),
            };
            (Who::Node(rng.random_range(0..NODES.len())), what)
        }
        13..17 => {
            let what = match rng.random_range(0..10) {
                0..6 => What::Kill,
                6..8 => What::Freeze,
                _ => What::Close(Way::Both),
            };
            (Who::Control, what)
        }
        _ => {
            let what = match rng.random_range(0..4) {
                0 | 1 => What::Kill,
                2 => What::KillAndEmpty,
                _ => What::Freeze,
            };
            (Who::Etcd, what)
        }
    }
}

/// Short, when nobody need take it for lost, or long, when everybody must.
fn how_long(rng: &mut StdRng, what: What) -> Duration {
    let millis = match what {
        What::Kill | What::KillAndEmpty => rng.random_range(100..7000),
        What::Freeze | What::Close(_) if rng.random() => rng.random_range(300..1800),
        What::Freeze | What::Close(_) => rng.random_range(5500..9000),
    };
    Duration::from_millis(millis).min(LASTS_MAX)
}

/// What is out of order now, and what was, for those who judge what they see meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Weather(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Nobody can hear it, and since when.
    silent: BTreeMap<Who, Instant>,
    /// When each was last troubled.
    troubled: BTreeMap<Who, Instant>,
    /// Every death: when, and when it was begun again.
    deaths: Vec<Death>,
    counts: BTreeMap<String, u32>,
    told: Vec<String>,
}

/// A process that was killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) who: Who,
    pub(crate) at: Timestamp,
    pub(crate) back: Option<Timestamp>,
}

impl Weather {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when nobody can hear that one, and the control plane could have noticed: not while it was troubled itself.
    pub(crate) fn noticeably_silent(&self, who: Who) -> Option<Duration> {
        let inner = self.lock();
        let since = *inner.silent.get(&who)?;
        if inner.silent.contains_key(&Who::Control) {
            return None;
        }
        let since = inner.troubled.get(&Who::Control).map_or(since, |control| since.max(*control));
        Some(since.elapsed())
    }

    /// Every death so far.
    pub(crate) fn deaths(&self) -> Vec<Death> {
        self.lock().deaths.clone()
    }

    /// How often each thing went wrong.
    pub(crate) fn counts(&self) -> BTreeMap<String, u32> {
        self.lock().counts.clone()
    }

    /// What happened, a line for each.
    pub(crate) fn story(&self) -> String {
        self.lock().told.join("\n")
    }

    fn begins(&self, mishap: &Mishap) {
        let mut inner = self.lock();
        let Mishap { who, what, .. } = *mishap;
        inner.troubled.insert(who, Instant::now());
        let kind = if matches!(who, Who::Node(_)) { "a node".to_owned() } else { who.to_string() };
        *inner.counts.entry(format!("{kind}: {}", what.name())).or_default() += 1;
        let now = SystemClock.now();
        inner.told.push(format!("{now:.3}  {mishap}"));
        // Whoever is only deaf is heard for a while.
        if what != What::Close(Way::In) {
            inner.silent.insert(who, Instant::now());
        }
        if matches!(what, What::Kill | What::KillAndEmpty) {
            inner.deaths.push(Death { who, at: now, back: None });
        }
    }

    fn ends(&self, mishap: &Mishap) {
        let mut inner = self.lock();
        let who = mishap.who;
        inner.silent.remove(&who);
        inner.troubled.insert(who, Instant::now());
        let now = SystemClock.now();
        inner.told.push(format!("{now:.3}             {who} is back"));
        if let Some(death) = inner.deaths.iter_mut().rev().find(|death| death.who == who) {
            death.back.get_or_insert(now);
        }
    }
}

/// Lets all of it happen, and end.
pub(crate) async fn befall(cluster: &Cluster, weather: &Weather, schedule: &[Mishap]) {
    let begun = Instant::now();
    let mut steps: Vec<(Duration, bool, &Mishap)> = schedule
        .iter()
        .flat_map(|mishap| [(mishap.at, true, mishap), (mishap.at + mishap.lasts, false, mishap)])
        .collect();
    steps.sort_by_key(|(at, _, _)| *at);
    for (at, begins, mishap) in steps {
        tokio::time::sleep_until(begun + at).await;
        if begins {
            weather.begins(mishap);
            begin(cluster, mishap);
        } else {
            end(cluster, mishap);
            weather.ends(mishap);
        }
    }
}

fn begin(cluster: &Cluster, Mishap { who, what, .. }: &Mishap) {
    match what {
        What::Kill => cluster.kill(*who),
        What::KillAndEmpty => {
            cluster.kill(*who);
            cluster.empty_etcd();
        }
        What::Freeze => cluster.freeze(*who),
        What::Close(way) => cluster.net.close(who.machine(), *way),
    }
}

fn end(cluster: &Cluster, Mishap { who, what, .. }: &Mishap) {
    match what {
        What::Kill | What::KillAndEmpty => cluster.start(*who),
        What::Freeze => cluster.thaw(*who),
        What::Close(way) => cluster.net.open(who.machine(), *way),
    }
}

#[cfg(test)]
mod tests {
    use wasmatrix_sim::Seed;

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_fate_and_nobody_has_two_at_once() {
        let time = Duration::from_secs(600);
        let draw = |seed| schedule(&mut Seed::new(seed).rng(), time);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let all = draw(7);
        assert!(all.len() > 100, "{}", all.len());
        for (index, one) in all.iter().enumerate() {
            assert!(one.at < time && one.lasts <= LASTS_MAX);
            let later = all[index + 1..].iter().filter(|later| later.who == one.who);
            assert!(later.into_iter().all(|later| later.at > one.at + one.lasts), "{one}");
        }
    }
}
