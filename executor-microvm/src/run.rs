//! One run: the thread that runs its machine's vCPU, and the handle that its driver holds.
//!
//! ```text
//!            ┌──────────────── thread ─────────────────┐
//!  launch ──►│ step ──► request ──► serve ──► answer ──┐│──► exited
//!            │   ▲                                     ││
//!            │   └─────────────────────────────────────┘│
//!            └──▲───────────────────────────────────────┘
//!               └ kicked by the watch: wall time, stop, share
//! ```
//!
//! A guest that computes is interrupted by a signal to its thread; one that waits in a request is ended by dropping
//! the wait. Both ways lead through [`Control`].

use std::{sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use wasmatrix_executor_api::{Error, ErrorKind, Instance, Launch, Meter};
use wasmatrix_microvm_abi::{Request, Response};
use wasmatrix_model::{ExitCause, LimitKind};

use crate::{
    ending,
    machine::{Machine, Step, Violation, template::Template},
    serve::{Host, Served, Unserved},
    sys::Kicker,
};

/// How often a guest is interrupted that has less than a core.
const TICK: Duration = Duration::from_millis(10);
/// How often any guest is interrupted, for the meter's sake.
const METER_TICK: Duration = Duration::from_millis(500);

/// Of the buffer for requests, how much is kept between them, in bytes.
const BUFFER_BYTES_KEPT: usize = 128 << 10;

/// Why a run was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It had run for as long as it may.
    WallTime { allowed: Duration },
    /// It was asked to stop.
    Stopped,
}

impl From<Cut> for ExitCause {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::WallTime { allowed } => Self::LimitExceeded {
                limit: LimitKind::WallTime,
                message: format!("{allowed:?} are allowed and the run took longer"),
            },
            Cut::Stopped => Self::StopRequested,
        }
    }
}

/// What a run's thread, its watch and its handle share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    kicker: Kicker,
    orders: watch::Sender<Orders>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// End now, for that reason.
    cut: Option<Cut>,
    /// The run is over.
    over: bool,
}

impl Control {
    /// Waits until the run is to be ended, whatever it does.
    pub(crate) async fn cut(&self) -> Cut {
        let mut orders = self.orders.subscribe();
        loop {
            if let Some(cut) = orders.borrow_and_update().cut {
                return cut;
            }
            // The sender is ourselves and outlives the call.
            let _ = orders.changed().await;
        }
    }

    /// Ends the run now.
    fn end(&self, cut: Cut) {
        self.orders.send_modify(|orders| {
            orders.cut.get_or_insert(cut);
        });
        self.kicker.kick();
    }

    /// Why the run is to be ended, if it is.
    pub(crate) fn verdict(&self) -> Option<Cut> {
        self.orders.borrow().cut
    }

    /// Interrupts the guest whenever there is something to look at, until the run is over.
    async fn watch(self: Arc<Self>, wall_time_max: Option<Duration>, tick: Duration) {
        let begun = Instant::now();
        // A deadline beyond the clock's end is none.
        let deadline = wall_time_max.and_then(|allowed| Some((begun.checked_add(allowed)?, allowed)));
        let mut orders = self.orders.subscribe();
        let mut ticks = interval_at(Instant::now() + tick, tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let too_long = async {
            match deadline {
                Some((deadline, allowed)) => {
                    sleep_until(deadline).await;
                    allowed
                }
                None => std::future::pending().await,
            }
        };
        tokio::pin!(too_long);
        let mut timed_out = false;
        loop {
            tokio::select! {
                allowed = &mut too_long, if !timed_out => {
                    timed_out = true;
                    self.end(Cut::WallTime { allowed });
                }
                _ = ticks.tick() => self.kicker.nudge(),
                // The sender is ourselves and outlives the call.
                _ = orders.changed() => {
                    if orders.borrow_and_update().over {
                        return;
                    }
                }
            }
        }
    }
}

/// The driver's handle on a run.
#[derive(Debug)]
pub(crate) struct Run {
    control: Arc<Control>,
    meter: Arc<Meter>,
    ended: watch::Receiver<Option<ExitCause>>,
}

/// Starts a run in a machine made from that template, and waits until its code has been instantiated.
pub(crate) async fn start(
    mut machine: Machine,
    template: &Template,
    launch: Launch,
    requests_per_second_max: u32,
    permit: OwnedSemaphorePermit,
) -> Result<Run, Error> {
    machine.memory.admit(launch.limits.memory_bytes_max);
    let (control, meter) = (Arc::<Control>::default(), Arc::<Meter>::default());
    meter.set_memory_bytes(machine.memory.memory_bytes());
    // What was instantiated ahead and is within the limits runs at once; what is not is refused by the guest, as it
    // would have been.
    let is_started = template.instantiated().is_some_and(|has| {
        has.memory_bytes <= launch.limits.memory_bytes_max
            && has.table_elements <= launch.limits.table_elements_max
    });
    let wall_time_max = launch.limits.wall_time_max;
    let (host, start) =
        Host::new(launch, requests_per_second_max, is_started, Arc::clone(&control), Arc::clone(&meter));
    let tick = if host.computing.is_limited() { TICK } else { METER_TICK };
    if !machine.answer(&Response::Start(start)) {
        let message = "arguments, environment and configuration are together larger than a micro-VM takes: give it less";
        return Err(Error::new(ErrorKind::Exhausted, message));
    }
    let (started, instantiated) = oneshot::channel();
    let (tell, ended) = watch::channel(None);
    let guest = Guest {
        machine,
        host,
        control: Arc::clone(&control),
        meter: Arc::clone(&meter),
        started: Some(started),
    };
    let runtime = Handle::current();
    let thread = thread::Builder::new().name("microvm".into()).spawn(move || {
        let (_permit, _context) = (permit, runtime.enter());
        guest.live(&tell);
    });
    thread.map_err(|error| {
        Error::new(ErrorKind::Exhausted, "no thread for a micro-VM: raise the limit on threads (ulimit -u)")
            .caused_by(error)
    })?;
    tokio::spawn(Arc::clone(&control).watch(wall_time_max, tick));
    // From here on, leaving early drops the handle, and that ends the run.
    let mut run = Run { control, meter, ended };
    if is_started {
        return Ok(run);
    }
    match instantiated.await {
        Ok(()) => Ok(run),
        Err(_) => Err(ending::not_started(run.exited().await)),
    }
}

#[async_trait]
impl Instance for Run {
    async fn exited(&mut self) -> ExitCause {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or_else(|| ending::fault("it ended without a cause")),
            Err(_) => ending::fault("its thread panicked"),
        }
    }

    async fn stop(&mut self) -> ExitCause {
        self.control.end(Cut::Stopped);
        self.exited().await
    }

    fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.control.end(Cut::Stopped);
    }
}

/// What the thread of a run holds.
struct Guest {
    machine: Machine,
    host: Host,
    control: Arc<Control>,
    meter: Arc<Meter>,
    /// Told once the code is instantiated, or dropped if that failed.
    started: Option<oneshot::Sender<()>>,
}

impl Guest {
    fn live(mut self, tell: &watch::Sender<Option<ExitCause>>) {
        let cause = self.execute();
        self.host.computing.count(self.host.elapsed());
        self.meter.set_memory_bytes(0);
        self.control.orders.send_modify(|orders| orders.over = true);
        tell.send_replace(Some(cause));
        // Only now, when nobody waits for it, is the machine taken apart.
    }

    fn execute(&mut self) -> ExitCause {
        let mut buffer = Vec::new();
        loop {
            let step = match self.machine.step(&self.control.kicker, &mut buffer) {
                Ok(step) => step,
                Err(violation) => return ending::violated(&violation),
            };
            match step {
                Step::Kicked => {
                    self.host.computing.count(self.host.elapsed());
                    if let Some(cut) = self.control.verdict() {
                        return cut.into();
                    }
                }
                Step::Request(length) => match self.serve(&buffer[..length]) {
                    Ok(None) => {}
                    Ok(Some(cause)) => return cause,
                    Err(Unserved::Cut(cut)) => return cut.into(),
                    Err(Unserved::Violation(violation)) => return ending::violated(&violation),
                },
            }
            if buffer.len() > BUFFER_BYTES_KEPT {
                buffer = Vec::new();
            }
            if let Some(rest) = self.host.rest()
                && let Err(cut) = self.host.wait_for(async { sleep(rest).await })
            {
                return cut.into();
            }
        }
    }

    /// Serves a request; the answer is the end, if it was one.
    fn serve(&mut self, bytes: &[u8]) -> Result<Option<ExitCause>, Unserved> {
        let request = Request::parse(bytes).map_err(Violation::from)?;
        let answer = match self.host.serve(&mut self.machine.memory, request)? {
            Served::Answer(answer) => answer,
            Served::Started => {
                if let Some(started) = self.started.take() {
                    // Nobody waits for it any more: the handle is gone, and the run is about to be ended.
                    let _ = started.send(());
                }
                Response::Yes
            }
            Served::End(end) => return Ok(Some(ending::cause(end))),
        };
        if self.machine.answer(&answer) { Ok(None) } else { Err(Violation::OutOfTurn.into()) }
    }
}
