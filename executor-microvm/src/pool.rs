//! Machines booted ahead of need.
//!
//! A launch takes one and has another booted in its place, in the background. Nothing is ever put back: a machine is
//! used once. The pool is filled by the first use, and emptied again when nothing was launched for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};

use crate::{
    image::Image,
    machine::{Machine, MachineError},
    probe::Hypervisor,
};

/// A pool that nobody took from for so long is emptied.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    hypervisor: Hypervisor,
    image: Image,
    machines_max: usize,
    state: Mutex<State>,
    /// A machine was taken.
    taken: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    ready: Vec<Machine>,
    /// Whether a task is at work that fills and empties.
    tended: bool,
    used_at: Instant,
}

impl Pool {
    /// An empty pool for so many machines.
    pub(crate) fn new(hypervisor: Hypervisor, image: Image, machines_max: u32) -> Arc<Self> {
        let state = State { ready: Vec::new(), tended: false, used_at: Instant::now() };
        Arc::new(Self {
            hypervisor,
            image,
            machines_max: machines_max as usize,
            state: Mutex::new(state),
            taken: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine that is ready: from the pool, or else booted now, which takes milliseconds.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Machine, MachineError> {
        let ready = self.lock().ready.pop();
        self.expect_use();
        match ready {
            Some(machine) => Ok(machine),
            None => self.boot().await,
        }
    }

    async fn boot(self: &Arc<Self>) -> Result<Machine, MachineError> {
        let pool = Arc::clone(self);
        let booted = tokio::task::spawn_blocking(move || {
            let Hypervisor { kvm, cpuid, features } = &pool.hypervisor;
            Machine::boot(kvm, cpuid, &pool.image, *features)
        });
        booted.await.unwrap_or_else(|error| Err(MachineError::Boot(error.to_string())))
    }

    /// Says that machines are or will soon be wanted.
    pub(crate) fn expect_use(self: &Arc<Self>) {
        let mut state = self.lock();
        state.used_at = Instant::now();
        self.taken.notify_one();
        if !state.tended && self.machines_max > 0 {
            state.tended = true;
            Handle::current().spawn(tend(Arc::downgrade(self)));
        }
    }

    /// What is to be done next: boot, or wait until that time, or, after that, leave.
    fn next(&self) -> Next {
        let mut state = self.lock();
        let idle_at = state.used_at + IDLE_TIME_MAX;
        if Instant::now() >= idle_at {
            state.ready.clear();
            state.tended = false;
            return Next::Leave;
        }
        if state.ready.len() < self.machines_max { Next::Boot } else { Next::WaitUntil(idle_at) }
    }
}

enum Next {
    Boot,
    WaitUntil(Instant),
    Leave,
}

/// Fills the pool whenever it is not full, and empties it when it was idle for long.
async fn tend(pool: std::sync::Weak<Pool>) {
    loop {
        let Some(pool) = pool.upgrade() else { return };
        match pool.next() {
            Next::Leave => return,
            Next::Boot => match pool.boot().await {
                Ok(machine) => pool.lock().ready.push(machine),
                Err(error) => {
                    // The next launch will try by itself, and say what is wrong.
                    tracing::warn!(error = %error, "a micro-VM could not be booted ahead of need");
                    pool.lock().tended = false;
                    return;
                }
            },
            Next::WaitUntil(time) => {
                let taken = Arc::clone(&pool.taken);
                // Not held while waiting: a pool that is dropped goes at once, and this task at its next look.
                drop(pool);
                tokio::select! {
                    () = taken.notified() => {}
                    () = tokio::time::sleep_until(time) => {}
                }
            }
        }
    }
}
