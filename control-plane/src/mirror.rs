//! The view of all nodes' instances as the parts of the control plane share it: one lock, held for moments, and word of
//! every change.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use wasmatrix_model::{InstanceId, InstanceName, InstanceStatus, Load, NodeId, RunId, Subject, Timestamp};

use crate::{
    placement::{Request, Unplaceable},
    placing::{Placing, Reserved},
    view::{Change, Found, Gone, Page, PageToken, Source, Stale, View},
};

/// Instances that are remembered after they were lost, with the reason, for those who ask where they are.
const REASONS_KEPT: usize = 10_000;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Mirror {
    view: Mutex<View>,
    /// Told of every node's load, within the view's lock.
    placing: Placing,
    reasons: Mutex<Reasons>,
    changes: watch::Sender<()>,
}

/// Why instances are listed no longer, by name and by id.
#[derive(Debug, Default)]
struct Reasons {
    by_word: HashMap<String, String>,
    oldest_first: VecDeque<String>,
}

/// The name of an instance in a fact.
pub(crate) fn subject(status: &InstanceStatus) -> Subject {
    Subject { id: status.id, name: status.spec.name.clone() }
}

impl Mirror {
    pub(crate) fn new(placing: Placing) -> Self {
        Self { view: Mutex::default(), placing, reasons: Mutex::default(), changes: watch::Sender::default() }
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells placement what a node lists.
    fn weigh(&self, view: &View, node: &NodeId) {
        self.placing.lock().list(node, view.load(node));
    }

    /// Word of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Wakes those who wait for a change that is none of an instance.
    pub(crate) fn announce(&self) {
        self.changes.send_replace(());
    }

    /// As [`View::reset`].
    pub(crate) fn reset(&self, node: &NodeId, run: RunId) {
        self.lock().reset(node, run);
    }

    /// The stream of its node tells that an instance is so. Gives the copies that are stale by that.
    pub(crate) fn told(&self, node: &NodeId, run: RunId, status: InstanceStatus) -> (Change, Vec<Stale>) {
        let id = status.id;
        let mut view = self.lock();
        let change = view.upsert(node, run, Source::Stream, status);
        self.weigh(&view, node);
        // Also of what an answer told first, and the stream tells only now.
        let stale = match change {
            Change::New | Change::Updated => view.overtaken_by(id),
            Change::Outdated | Change::Refused(_) => Vec::new(),
        };
        drop(view);
        self.announce();
        (change, stale)
    }

    /// A request was answered: an instance is so, unless something later is known.
    pub(crate) fn answered(&self, run: RunId, status: InstanceStatus) {
        let node = status.node.clone();
        let mut view = self.lock();
        view.upsert(&node, run, Source::Answer, status);
        self.weigh(&view, &node);
        drop(view);
        self.announce();
    }

    /// An instance is listed no longer, as the stream of its node tells, or the answer to a request.
    pub(crate) fn removed(&self, node: &NodeId, run: RunId, id: InstanceId) {
        let mut view = self.lock();
        view.remove(node, run, id);
        self.weigh(&view, node);
        drop(view);
        self.announce();
    }

    /// The node has told all that there is. Gives what it no longer has, and what it should not have.
    pub(crate) fn synced(&self, node: &NodeId, run: RunId, through: u64) -> (Vec<Gone>, Vec<Stale>) {
        let mut view = self.lock();
        let gone = view.synced(node, run, through);
        let stale = view.stale(node);
        self.weigh(&view, node);
        drop(view);
        self.announce();
        (gone, stale)
    }

    /// As [`View::unknown`].
    pub(crate) fn unknown(&self, node: &NodeId, since: Timestamp, reason: &str) -> Vec<InstanceStatus> {
        let unknown = self.lock().unknown(node, since, reason);
        self.announce();
        unknown
    }

    /// As [`View::forget`].
    pub(crate) fn forget(&self, node: &NodeId) -> Vec<InstanceStatus> {
        let mut view = self.lock();
        let forgotten = view.forget(node);
        self.weigh(&view, node);
        drop(view);
        self.announce();
        forgotten
    }

    /// As [`View::succeeded`].
    pub(crate) fn succeeded(&self, id: InstanceId, generation: u64) {
        self.lock().succeeded(id, generation);
    }

    /// As [`View::succeeded_by`].
    pub(crate) fn succeeded_by(&self, id: InstanceId) -> Option<u64> {
        self.lock().succeeded_by(id)
    }

    /// As [`View::find`].
    pub(crate) fn find(&self, name_or_id: &str) -> Found {
        self.lock().find(name_or_id)
    }

    /// An instance that has that name, if any has.
    pub(crate) fn holder(&self, name: &InstanceName) -> Option<Arc<InstanceStatus>> {
        match self.lock().find(name.as_str()) {
            Found::None => None,
            Found::One(status) => Some(Arc::from(status)),
            Found::Several(several) => several.into_iter().next().map(Arc::new),
        }
    }

    /// As [`View::holders`].
    pub(crate) fn holders(&self, name: &InstanceName) -> Vec<InstanceStatus> {
        self.lock().holders(name)
    }

    pub(crate) fn get(&self, id: InstanceId) -> Option<InstanceStatus> {
        self.lock().get(id)
    }

    /// As [`View::with_idempotency_key`].
    pub(crate) fn by_key(&self, key: &str) -> Option<Arc<InstanceStatus>> {
        self.lock().with_idempotency_key(key).map(Arc::new)
    }

    /// As [`View::page`].
    pub(crate) fn page(&self, after: Option<&PageToken>, count: usize, node: Option<&NodeId>) -> Page {
        self.lock().page(after, count, node)
    }

    /// All of one node.
    pub(crate) fn of_node(&self, node: &NodeId) -> Vec<InstanceStatus> {
        self.lock().page(None, usize::MAX, Some(node)).instances
    }

    pub(crate) fn load(&self, node: &NodeId) -> Load {
        self.lock().load(node)
    }

    /// As [`Placing::place`], by what is listed now.
    pub(crate) fn place(&self, request: &Request<'_>) -> Result<Reserved, Unplaceable> {
        let Some(group) = &request.spec.placement.group else { return self.placing.place(request, |_| 0) };
        let view = self.lock();
        let members = view.members(group);
        self.placing.place(request, |node| members.on(node))
    }

    /// Remembers for a while why an instance is listed no longer.
    pub(crate) fn remember_why(&self, status: &InstanceStatus, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        for word in [status.id.to_string(), status.spec.name.to_string()] {
            if reasons.by_word.insert(word.clone(), reason.to_owned()).is_none() {
                reasons.oldest_first.push_back(word);
            }
        }
        while reasons.oldest_first.len() > 2 * REASONS_KEPT {
            if let Some(oldest) = reasons.oldest_first.pop_front() {
                reasons.by_word.remove(&oldest);
            }
        }
    }

    /// Why the instance of that name or id is listed no longer, if it was lost.
    pub(crate) fn why_gone(&self, name_or_id: &str) -> Option<String> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.by_word.get(name_or_id).cloned()
    }
}
