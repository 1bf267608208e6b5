//! Machines made ahead of need.
//!
//! A launch takes one that was made from its template and has another made in its place, in the background. Nothing is
//! ever put back: a machine is used once. What the pool holds is what the last launches used, as many machines as there
//! is room for; it is emptied again when nothing was launched for a while.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};

use crate::{
    machine::{Machine, MachineError, template::Template},
    templates::Templates,
};

/// A pool that nobody took from for so long is emptied.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    templates: Arc<Templates>,
    machines_max: usize,
    state: Mutex<State>,
    /// A machine was taken, or others are wanted.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    ready: Vec<(Arc<Template>, Machine)>,
    /// What was used last, the latest first; no more than there is room for.
    used: VecDeque<Arc<Template>>,
    /// Whether a task is at work that fills and empties.
    tended: bool,
    used_at: Instant,
}

impl State {
    fn count(&self, template: &Arc<Template>) -> usize {
        self.ready.iter().filter(|(made_from, _)| Arc::ptr_eq(made_from, template)).count()
    }

    /// How many machines of a template there are to be, if so many are to be in all: what was used several times of
    /// late has its share several times.
    fn wanted(&self, template: &Arc<Template>, machines_max: usize) -> usize {
        let shares = self.used.iter().cycle().take(if self.used.is_empty() { 0 } else { machines_max });
        shares.filter(|used| Arc::ptr_eq(used, template)).count()
    }

    /// What there are too few machines of.
    fn lacking(&self, machines_max: usize) -> Option<Arc<Template>> {
        let lacks = |template: &&Arc<Template>| self.count(template) < self.wanted(template, machines_max);
        self.used.iter().find(lacks).cloned()
    }

    /// Removes a machine that is one too many, if it is in the way of another.
    fn make_room(&mut self, machines_max: usize) -> Option<Machine> {
        if self.ready.len() < machines_max {
            return None;
        }
        let is_spare = |(template, _): &(Arc<Template>, Machine)| {
            self.count(template) > self.wanted(template, machines_max)
        };
        let spare = self.ready.iter().position(is_spare)?;
        Some(self.ready.swap_remove(spare).1)
    }
}

impl Pool {
    /// An empty pool for so many machines.
    pub(crate) fn new(templates: Arc<Templates>, machines_max: u32) -> Arc<Self> {
        let state =
            State { ready: Vec::new(), used: VecDeque::new(), tended: false, used_at: Instant::now() };
        Arc::new(Self {
            templates,
            machines_max: machines_max as usize,
            state: Mutex::new(state),
            changed: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine made from that template: from the pool, or else made now, which takes longer.
    pub(crate) async fn take(self: &Arc<Self>, template: &Arc<Template>) -> Result<Machine, MachineError> {
        let ready = {
            let mut state = self.lock();
            let found = state.ready.iter().position(|(made_from, _)| Arc::ptr_eq(made_from, template));
            found.map(|index| state.ready.swap_remove(index).1)
        };
        self.expect_use(template);
        match ready {
            Some(machine) => Ok(machine),
            None => self.make(template, Templates::machine).await,
        }
    }

    async fn make(
        self: &Arc<Self>,
        template: &Arc<Template>,
        make: fn(&Templates, &Template) -> Result<Machine, MachineError>,
    ) -> Result<Machine, MachineError> {
        let (pool, template) = (Arc::clone(self), Arc::clone(template));
        let made = tokio::task::spawn_blocking(move || make(&pool.templates, &template));
        made.await.unwrap_or_else(|error| Err(MachineError::Boot(error.to_string())))
    }

    /// Says that machines made from that template are or will soon be wanted.
    pub(crate) fn expect_use(self: &Arc<Self>, template: &Arc<Template>) {
        if self.machines_max == 0 {
            return;
        }
        let mut state = self.lock();
        state.used.push_front(Arc::clone(template));
        state.used.truncate(self.machines_max);
        state.used_at = Instant::now();
        self.changed.notify_one();
        if !state.tended {
            state.tended = true;
            Handle::current().spawn(tend(Arc::downgrade(self)));
        }
    }

    /// What is to be done next: make a machine, or wait until that time, or, after that, leave.
    fn next(&self) -> Next {
        let mut state = self.lock();
        let idle_at = state.used_at + IDLE_TIME_MAX;
        if Instant::now() >= idle_at {
            state.ready.clear();
            state.used.clear();
            state.tended = false;
            return Next::Leave;
        }
        match state.lacking(self.machines_max) {
            Some(template) => {
                Next::Make { template, instead: state.make_room(self.machines_max).map(Box::new) }
            }
            None => Next::WaitUntil(idle_at),
        }
    }
}

enum Next {
    Make {
        template: Arc<Template>,
        /// Taken apart for it, outside the lock.
        instead: Option<Box<Machine>>,
    },
    WaitUntil(Instant),
    Leave,
}

/// Fills the pool whenever it lacks something, and empties it when it was idle for long.
async fn tend(pool: std::sync::Weak<Pool>) {
    loop {
        let Some(pool) = pool.upgrade() else { return };
        match pool.next() {
            Next::Leave => return,
            Next::Make { template, instead } => {
                drop(instead);
                match pool.make(&template, Templates::machine_ahead).await {
                    Ok(machine) => pool.lock().ready.push((template, machine)),
                    Err(error) => {
                        // The next launch will try by itself, and say what is wrong.
                        tracing::warn!(error = %error, "a micro-VM could not be made ahead of need");
                        pool.lock().tended = false;
                        return;
                    }
                }
            }
            Next::WaitUntil(time) => {
                let changed = Arc::clone(&pool.changed);
                // Not held while waiting: a pool that is dropped goes at once, and this task at its next look.
                drop(pool);
                tokio::select! {
                    () = changed.notified() => {}
                    () = tokio::time::sleep_until(time) => {}
                }
            }
        }
    }
}
