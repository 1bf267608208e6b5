//! One run: a task on the guests' threads, and the handle that its driver holds.
//!
//! ```text
//!            ┌───────────────────── task ─────────────────────┐
//!  launch ──►│ instantiate ──► wasi:cli/run ──► how it ended  │──► exited
//!            │      └── supervised: wall time, stop, share ──┘│
//!            │ deliver output until all of it is out          │
//!            └────────────────────────────────────────────────┘
//! ```
//!
//! A guest that computes is interrupted by the engine's epoch at every tick: it gives its thread to the next, or ends
//! if it was asked to. A guest that waits in a host call is ended from outside, by dropping the call. Both ways lead
//! through [`Supervisor`].

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot},
    task::{JoinError, JoinHandle},
    time::sleep,
};
use wasmatrix_executor_api::{Console, Error, ErrorKind, Instance, Launch, Meter};
use wasmatrix_model::{ErrorCode, ExitCause};
use wasmtime::{Store, UpdateDeadline};

use crate::{
    compile::Compiled,
    host::{CALL_BYTES_MAX, State},
    streams::Outputs,
    supervise::{StopSignal, Supervisor},
    ticker::Ticking,
    trap::{self, Stopped},
};

/// After a stop, how long the console may take for what is left to say.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// What a run occupies while it lasts.
pub(crate) struct Place {
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) _ticking: Ticking,
}

/// The driver's handle on a run.
pub(crate) struct Run {
    task: JoinHandle<ExitCause>,
    stop: Arc<StopSignal>,
    meter: Arc<Meter>,
    exit: Option<ExitCause>,
}

/// Starts a run and waits until its code has been instantiated.
pub(crate) async fn start(
    runtime: &Handle,
    compiled: &Arc<Compiled>,
    launch: Launch,
    place: Place,
) -> Result<Run, Error> {
    let (started, instantiated) = oneshot::channel();
    let (stop, meter) = (Arc::<StopSignal>::default(), Arc::<Meter>::default());
    let guest = Guest { compiled: Arc::clone(compiled), stop: Arc::clone(&stop), meter: Arc::clone(&meter) };
    let task = runtime.spawn(async move {
        let ended = AssertUnwindSafe(guest.live(launch, started)).catch_unwind().await;
        drop(place);
        ended.unwrap_or_else(|panic| fault(format!("the host panicked: {}", panic_text(&*panic))))
    });
    // From here on, leaving early drops the handle, and that ends the task.
    let mut run = Run { task, stop, meter, exit: None };
    match instantiated.await {
        Ok(()) => Ok(run),
        Err(_) => Err(not_started(run.exited().await)),
    }
}

#[async_trait]
impl Instance for Run {
    async fn exited(&mut self) -> ExitCause {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let exit = (&mut self.task).await.unwrap_or_else(|error| lost(&error));
        self.exit.insert(exit).clone()
    }

    async fn stop(&mut self) -> ExitCause {
        self.stop.request();
        self.exited().await
    }

    fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task of a run holds.
struct Guest {
    compiled: Arc<Compiled>,
    stop: Arc<StopSignal>,
    meter: Arc<Meter>,
}

impl Guest {
    /// The whole of a run. `started` is told once the code is instantiated, or dropped if that failed.
    async fn live(self, launch: Launch, started: oneshot::Sender<()>) -> ExitCause {
        let supervisor = Supervisor::new(&launch.limits, Arc::clone(&self.stop), Arc::clone(&self.meter));
        let (console, meter) = (Arc::clone(&launch.console), Arc::clone(&self.meter));
        let (state, outputs) = State::new(launch, Arc::clone(&self.meter));
        let stop = Arc::clone(&self.stop);
        let guest = async {
            let cause = self.execute(state, supervisor, started).await;
            meter.set_memory_bytes(0);
            outputs.finish();
            cause
        };
        let (cause, ()) = futures::join!(guest, deliver(&outputs, &*console, &stop));
        cause
    }

    async fn execute(
        self,
        state: State,
        mut supervisor: Supervisor,
        started: oneshot::Sender<()>,
    ) -> ExitCause {
        let mut store = self.store(state);
        let instantiated = supervisor.attend(self.compiled.command.instantiate_async(&mut store)).await;
        let command = match instantiated {
            Ok(Ok(command)) => command,
            Ok(Err(error)) => return trap::cause(&error, &store.data().limiter),
            Err(cut) => return cut.into(),
        };
        // Nobody waits for it any more: the handle is gone, and the task is about to be ended.
        let _ = started.send(());
        match supervisor.attend(command.wasi_cli_run().call_run(&mut store)).await {
            Ok(Ok(Ok(()))) => ExitCause::Exited { code: 0 },
            Ok(Ok(Err(()))) => ExitCause::Exited { code: 1 },
            Ok(Err(error)) => trap::cause(&error, &store.data().limiter),
            Err(cut) => cut.into(),
        }
    }

    fn store(&self, state: State) -> Store<State> {
        let mut store = Store::new(self.compiled.command.engine(), state);
        store.limiter(|state| &mut state.limiter);
        // Beside the bytes themselves, lists of them cost the host some room.
        store.set_hostcall_fuel(2 * CALL_BYTES_MAX);
        let stop = Arc::clone(&self.stop);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if stop.is_requested() {
                return Err(Stopped.into());
            }
            // A task that wakes itself goes to the end of its thread's queue. (tokio's own `yield_now` would wake it
            // later, into the slot that is served first, and a spinner would come before its neighbours for ever.)
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }
}

/// Delivers the output to its end; after a stop, only as long as is decent.
async fn deliver(outputs: &Outputs, console: &dyn Console, stop: &StopSignal) {
    let too_late = async {
        stop.requested().await;
        sleep(LAST_WORDS_TIME_MAX).await;
    };
    tokio::select! {
        biased;
        () = outputs.deliver(console) => {}
        () = too_late => {}
    }
}

/// A run that ended before it began, as the launch's error.
fn not_started(cause: ExitCause) -> Error {
    match cause {
        ExitCause::LimitExceeded { limit, message } => Error::new(
            ErrorKind::Exhausted,
            format!("the {limit} limit does not let it start: {message}; raise it"),
        ),
        ExitCause::Trapped { trap, backtrace } => {
            let place = backtrace.first().map(|frame| format!(" in {frame}")).unwrap_or_default();
            Error::new(ErrorKind::GuestFault, format!("its start function failed{place}: {trap}"))
        }
        ExitCause::Exited { code } => {
            Error::new(ErrorKind::GuestFault, format!("its start function exited with code {code}"))
        }
        ExitCause::StartFailed { code: ErrorCode::ResourceExhausted, message } => {
            Error::new(ErrorKind::Exhausted, message)
        }
        ExitCause::StopRequested => Error::new(ErrorKind::HostFault, "it was stopped while it started"),
        ExitCause::StartFailed { message, .. } | ExitCause::HostFault { message } => {
            Error::new(ErrorKind::HostFault, message)
        }
    }
}

fn lost(error: &JoinError) -> ExitCause {
    if error.is_cancelled() { fault("the executor was shut down") } else { fault("the run's task panicked") }
}

fn fault(message: impl Into<String>) -> ExitCause {
    ExitCause::HostFault { message: message.into() }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
