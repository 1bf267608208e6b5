//! The thread that makes guests yield: it advances the engine's epoch every tick while any guest runs, and rests
//! while none does.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use wasmtime::Engine;

use crate::engine::TICK;

/// Owns the thread. Dropping it ends the thread once the last run is gone: a guest that spins must go on being
/// interrupted until it has been taken off its thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    runs: usize,
    closed: bool,
}

/// Keeps the ticker ticking while it is held.
pub(crate) struct Ticking(Arc<Shared>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        thread::Builder::new().name("wasm-ticker".into()).spawn(move || tick(&seen, &engine))?;
        Ok(Self { shared })
    }

    /// Ticks at least until the answer is dropped.
    pub(crate) fn hold(&self) -> Ticking {
        self.shared.lock().runs += 1;
        self.shared.changed.notify_one();
        Ticking(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.lock().runs -= 1;
    }
}

fn tick(shared: &Shared, engine: &Engine) {
    let mut state = shared.lock();
    loop {
        if state.runs == 0 {
            if state.closed {
                return;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let (unlocked, waited) =
            shared.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
        state = unlocked;
        if waited.timed_out() {
            engine.increment_epoch();
        }
    }
}
