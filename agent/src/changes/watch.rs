//! A reader's way through the journal: first all that there is, then each change as it happens.

use std::vec;

use futures::{Stream, stream};
use wasmatrix_model::{InstanceId, InstanceStatus, RunId};

use super::{Entry, TooOld};
use crate::registry::Registry;

/// What a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Forget all that was told before: every instance follows.
    Reset,
    /// An instance is now so.
    Instance(Box<InstanceStatus>),
    /// An instance is listed no longer.
    Removed(InstanceId),
    /// All that there was when the reader came has been told.
    Synced,
}

/// A change, and the token with which to go on after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The change.
    pub change: Change,
    /// `RUN.REVISION`: goes on after this change, as long as this run of the agent lasts.
    pub resume_token: String,
}

struct Reader {
    run: RunId,
    newest: tokio::sync::watch::Receiver<u64>,
    /// All up to this revision was told.
    after: u64,
    /// The revision at which it began anew.
    anew: u64,
    batch: vec::IntoIter<(u64, Entry)>,
    /// Up to where `batch` is all that there is.
    until: u64,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// It is to be told that what it knew is void.
    Void,
    /// It is to be told all that there is.
    Behind,
    /// It is being told.
    CatchingUp,
    /// It was.
    Synced,
}

/// Follows the instances of `registry`, of run `run` of the agent. `holder` is what keeps the registry alive.
pub(crate) fn watch<H>(
    holder: H,
    registry: fn(&H) -> &Registry,
    run: RunId,
    token: &str,
) -> impl Stream<Item = Changed> + use<H> {
    let journal = registry(&holder).journal();
    let newest = journal.newest();
    let resumed = read_token(token, run).filter(|revision| *revision <= newest);
    let reader = Reader {
        run,
        newest: journal.subscribe(),
        after: resumed.unwrap_or(0),
        anew: if resumed.is_some() { 0 } else { newest },
        batch: Vec::new().into_iter(),
        until: 0,
        stage: if resumed.is_some() { Stage::Behind } else { Stage::Void },
    };
    stream::unfold((holder, reader), move |(holder, mut reader)| async move {
        let changed = reader.next(registry(&holder)).await?;
        Some((changed, (holder, reader)))
    })
}

/// The revision in a token of this run; `None`: it is none, or of another run.
fn read_token(token: &str, run: RunId) -> Option<u64> {
    let (named, revision) = token.split_once('.')?;
    let revision = revision.parse().ok()?;
    (named.parse() == Ok(run)).then_some(revision)
}

impl Reader {
    async fn next(&mut self, registry: &Registry) -> Option<Changed> {
        loop {
            if matches!(self.stage, Stage::Void) {
                self.stage = Stage::Behind;
                return Some(self.told(Change::Reset));
            }
            if let Some((revision, entry)) = self.batch.next() {
                self.after = revision;
                match entry {
                    Entry::Removed(id) => return Some(self.told(Change::Removed(id))),
                    Entry::Changed(id) => {
                        // One that is gone meanwhile comes again, as removed.
                        let Some(instance) = registry.by_id(id) else { continue };
                        return Some(self.told(Change::Instance(Box::new(instance.status()))));
                    }
                }
            }
            self.after = self.after.max(self.until);
            if matches!(self.stage, Stage::CatchingUp) {
                self.stage = Stage::Synced;
                return Some(self.told(Change::Synced));
            }
            self.newest.borrow_and_update();
            match registry.journal().since(self.after, self.anew) {
                Err(TooOld(now)) => {
                    (self.after, self.until, self.anew) = (0, 0, now);
                    self.stage = Stage::Void;
                }
                Ok(batch) if batch.entries.is_empty() && matches!(self.stage, Stage::Synced) => {
                    // The sender lives in the registry, which whoever polls this holds.
                    self.newest.changed().await.ok()?;
                }
                Ok(batch) => {
                    self.batch = batch.entries.into_iter();
                    self.until = batch.until;
                    if matches!(self.stage, Stage::Behind) {
                        self.stage = Stage::CatchingUp;
                    }
                }
            }
        }
    }

    fn told(&self, change: Change) -> Changed {
        Changed { change, resume_token: format!("{}.{}", self.run, self.after) }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use futures::{FutureExt as _, StreamExt as _};
    use proptest::prelude::*;
    use wasmatrix_model::{Clock as _, Digest, InstanceSpec, Limits, SystemClock};

    use super::*;
    use crate::{
        instance::{Instance, Origin},
        logs::Log,
        registry::Room,
    };

    /// So few that readers who are away miss some.
    const REMOVALS_KEPT: usize = 3;

    struct Site {
        registry: Arc<Registry>,
        run: RunId,
    }

    impl Site {
        fn new() -> Self {
            let room = Room { instances_max: 100, memory_bytes_max: None };
            Self { registry: Arc::new(Registry::remembering(room, REMOVALS_KEPT)), run: RunId::generate() }
        }

        fn watch(&self, token: &str) -> impl Stream<Item = Changed> + Unpin + use<> {
            watch(Arc::clone(&self.registry), |registry| registry, self.run, token).boxed()
        }

        /// Lists an instance of that name, changes the one that there is, or forgets it.
        fn act(&self, name: &str, forget: bool) {
            match self.registry.find(name) {
                None => {
                    let (instance, _) = Instance::new(Origin {
                        request: InstanceSpec::new(name.parse().unwrap(), Digest::of(b"")).into(),
                        node: "n".parse().unwrap(),
                        created_at: SystemClock.now(),
                        log: Arc::new(Log::new(&Limits::default(), Arc::new(SystemClock))),
                        journal: Arc::clone(self.registry.journal()),
                        artifact: None,
                    });
                    self.registry.admit(&Arc::new(instance)).unwrap();
                }
                Some(instance) if forget => assert!(self.registry.forget(&instance)),
                Some(instance) => instance.amend(|state| state.restart_count += 1),
            }
        }

        fn list(&self) -> BTreeMap<InstanceId, InstanceStatus> {
            let page = self.registry.page(None, usize::MAX);
            page.into_iter().map(|instance| (instance.id, instance.status())).collect()
        }
    }

    /// Somebody who keeps the same list.
    #[derive(Default)]
    struct Follower {
        listed: BTreeMap<InstanceId, InstanceStatus>,
        token: String,
        synced: bool,
    }

    impl Follower {
        /// Reads what there is, at most so much of it, and goes away again.
        fn read(&mut self, site: &Site, count: usize) {
            let mut changes = site.watch(&self.token);
            self.synced = false;
            for _ in 0..count {
                let Some(Some(Changed { change, resume_token })) = changes.next().now_or_never() else {
                    return;
                };
                self.token = resume_token;
                match change {
                    Change::Reset => self.listed.clear(),
                    Change::Instance(status) => {
                        let before = self.listed.insert(status.id, *status.clone());
                        let before = before.map_or(0, |before| before.revision);
                        assert!(status.revision >= before, "it went back from {before}");
                    }
                    Change::Removed(id) => drop(self.listed.remove(&id)),
                    Change::Synced => self.synced = true,
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn property_09_whoever_follows_ends_with_the_same_list(
            steps in prop::collection::vec((0..6_u8, any::<bool>(), 0..3_usize, 0..8_usize), 0..120),
        ) {
            let site = Site::new();
            let mut followers: [Follower; 2] = Default::default();
            for (name, forget, who, count) in steps {
                site.act(&format!("n{name}"), forget);
                if let Some(follower) = followers.get_mut(who) {
                    follower.read(&site, count);
                    if follower.synced {
                        prop_assert_eq!(&follower.listed, &site.list());
                    }
                }
            }
            for mut follower in followers {
                follower.read(&site, usize::MAX);
                prop_assert!(follower.synced);
                prop_assert_eq!(follower.listed, site.list());
            }
        }
    }

    #[test]
    fn a_token_that_means_nothing_here_brings_everything_anew() {
        let site = Site::new();
        site.act("one", false);
        let ahead = format!("{}.99", site.run);
        for token in ["", "x", "x.1", &format!("{}.1", RunId::generate()), &ahead] {
            let told: Vec<_> =
                site.watch(token).take(3).map(|changed| changed.change).collect().now_or_never().unwrap();
            assert!(
                matches!(told[..], [Change::Reset, Change::Instance(_), Change::Synced]),
                "{token}: {told:?}"
            );
        }
        let token = format!("{}.1", site.run);
        assert_eq!(site.watch(&token).next().now_or_never().unwrap().unwrap().change, Change::Synced);
    }

    #[test]
    fn a_flood_is_told_as_its_last_change() {
        let site = Site::new();
        site.act("one", false);
        let mut changes = site.watch("");
        let mut next = || changes.next().now_or_never().flatten().map(|changed| changed.change);
        assert_eq!(next(), Some(Change::Reset));
        assert!(matches!(next(), Some(Change::Instance(_))));
        assert_eq!(next(), Some(Change::Synced));
        for _ in 0..10_000 {
            site.act("one", false);
        }
        let Some(Change::Instance(status)) = next() else { panic!("it has changed") };
        assert_eq!((status.restart_count, status.revision), (10_000, 10_001));
        assert_eq!(next(), None);
    }
}
