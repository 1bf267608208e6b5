//! Names and keys that starts under way have taken: two starts of one name never reach two nodes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tonic::Status;
use wasmatrix_model::{ErrorCode, Failure, InstanceName, InstanceSpec};
use wasmatrix_wire::{failure::to_status, start::StartRequest, v1};

use crate::cluster::Cluster;

/// The detail of a failure that says that the request itself broke off.
pub(super) const BROKE_OFF: &str = "broke_off";

/// See the module's head. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Starts {
    inner: Arc<Mutex<Inner>>,
    starts_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    names: HashMap<InstanceName, Option<Arc<UnderWay>>>,
    keys: HashMap<String, Arc<UnderWay>>,
}

/// A start that is being made.
#[derive(Debug)]
struct UnderWay {
    spec: InstanceSpec,
    key: Option<String>,
    told: watch::Receiver<Option<Result<v1::InstanceStatus, Failure>>>,
}

/// A name that is being started, until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    starts: Starts,
    under_way: Arc<UnderWay>,
    tell: watch::Sender<Option<Result<v1::InstanceStatus, Failure>>>,
}

/// A name that nobody may start, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    starts: Starts,
    name: InstanceName,
}

/// What will come of a start that is being made.
#[derive(Clone, Debug)]
pub(crate) struct Outcome(watch::Receiver<Option<Result<v1::InstanceStatus, Failure>>>);

/// Whose a start is.
#[derive(Debug)]
pub(super) enum Reserved {
    Ours(Reservation),
    UnderWay(Outcome),
}

impl Starts {
    pub(crate) fn new(starts_max: usize) -> Self {
        Self { inner: Arc::default(), starts_max }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a request's name and key, or finds the start that has them.
    ///
    /// # Errors
    /// Another start has the name, or the key for another spec, or too many are under way.
    pub(super) fn reserve(&self, request: &StartRequest, cluster: &Cluster) -> Result<Reserved, Failure> {
        let name = &request.spec.name;
        let mut inner = self.lock();
        if let Some(key) = &request.idempotency_key
            && let Some(same) = inner.keys.get(key)
        {
            if same.spec != request.spec {
                return Err(other_spec(cluster, &same.spec.name));
            }
            return Ok(Reserved::UnderWay(Outcome(same.told.clone())));
        }
        if inner.names.contains_key(name) {
            let problem =
                format!("an instance `{name}` is being started already: take another name, or wait");
            return Err(cluster.invalid("name", problem).with("instance", name.as_str()));
        }
        if inner.names.len() >= self.starts_max {
            let message =
                format!("{} starts are under way, the most at one time: try again later", self.starts_max);
            return Err(cluster.failure(ErrorCode::ResourceExhausted, message));
        }
        let (tell, told) = watch::channel(None);
        let key = request.idempotency_key.clone();
        let under_way = Arc::new(UnderWay { spec: request.spec.clone(), key: key.clone(), told });
        inner.names.insert(name.clone(), Some(Arc::clone(&under_way)));
        if let Some(key) = key {
            inner.keys.insert(key, Arc::clone(&under_way));
        }
        Ok(Reserved::Ours(Reservation { starts: self.clone(), under_way, tell }))
    }

    /// Keeps a name from being started. `None`: it is being started.
    pub(crate) fn hold(&self, name: &InstanceName) -> Option<Hold> {
        let mut inner = self.lock();
        if inner.names.contains_key(name) {
            return None;
        }
        inner.names.insert(name.clone(), None);
        Some(Hold { starts: self.clone(), name: name.clone() })
    }
}

/// A key was used before, for something else.
pub(super) fn other_spec(cluster: &Cluster, name: &InstanceName) -> Failure {
    let problem = format!("was used to start `{name}` with another spec: take a new key for a new start");
    cluster.invalid("idempotency_key", problem).with("instance", name.as_str())
}

impl Reservation {
    /// Tells all who wait what came of it. The first word stands.
    pub(super) fn tell(&self, outcome: Result<v1::InstanceStatus, Failure>) {
        self.tell.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(outcome);
            }
            first
        });
    }

    /// What will come of it.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome(self.under_way.told.clone())
    }
}

impl Outcome {
    /// Waits for it, and says whether nothing came of it because the client who asked for it went away before the end
    /// of his artifact. That is no answer for another who asked with the same key: his request is whole.
    pub(super) async fn broke_off(mut self) -> bool {
        let Ok(told) = self.0.wait_for(Option::is_some).await else { return false };
        matches!(&*told, Some(Err(failure)) if failure.details.contains_key(BROKE_OFF))
    }

    /// Waits for it. `None`: nobody will ever tell.
    pub(super) async fn wait(mut self) -> Option<Result<v1::InstanceStatus, Status>> {
        let told = self.0.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(told.map_err(|failure| to_status(&failure)))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut inner = self.starts.lock();
        inner.names.remove(&self.under_way.spec.name);
        if let Some(key) = &self.under_way.key {
            inner.keys.remove(key);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.starts.lock().names.remove(&self.name);
    }
}
