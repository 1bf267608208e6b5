//! The one task that owns an instance: prepares it, runs it, watches it end, and lets the restart policy decide.
//!
//! ```text
//!           ┌────────────────────── restart, after the backoff ─────────────────────┐
//!           ▼                                                                       │
//! prepare ─► launch ─► watch ─── the run ended, or an order to stop ──► decide ─────┤
//!    │          │                                                                   │
//!    └──────────┴── failed ──► crashed ─────────────────────────────────────────► rest ── order to remove ──► gone
//! ```
//!
//! Nothing else changes an instance's phase, so each step and its facts are made in one place, and as one: whoever
//! hears of a fact finds the state that it tells of, and whoever sees the state finds the fact.

mod telling;

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use wasmatrix_executor_api::{Artifact, Console, Error, Executor, Launch, Prepared};
use wasmatrix_facts::Facts;
use wasmatrix_model::{Clock, Exit, ExitCause, FactKind, Phase};

use crate::{
    gate::Gate,
    instance::{Instance, Order, State},
    logs::clip,
    metrics::Metrics,
    restart::{Decision, Restarts},
};
use telling::BRIEF;
pub(crate) use telling::Telling;

/// Most bytes kept of why a start failed: names that an artifact made up may be in it.
const START_MESSAGE_BYTES_MAX: usize = 8 << 10;

/// What a driver needs beside its instance.
pub(crate) struct Driver {
    pub(crate) instance: Arc<Instance>,
    pub(crate) inbox: mpsc::Receiver<Order>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) restarts: Restarts,
    pub(crate) telling: Telling,
    /// A console of the user's own, for the first run; otherwise output goes to the log.
    pub(crate) attached: Option<Arc<dyn Console>>,
}

/// What is to be run: bytes, or what another instance had made of the same bytes.
pub(crate) enum Program {
    Bytes(Artifact),
    Prepared(Prepared),
}

impl Driver {
    /// Drives the instance until it is removed.
    pub(crate) async fn drive(mut self, program: Program) {
        let gone = match self.prepare(program).await {
            ControlFlow::Continue(prepared) => self.run_and_restart(&prepared).await,
            ControlFlow::Break(()) => ControlFlow::Continue(()),
        };
        if gone.is_continue() {
            self.rest().await;
        }
    }

    /// Makes the artifact ready. `Break`: that failed, or was stopped; the state says so.
    async fn prepare(&mut self, program: Program) -> ControlFlow<(), Prepared> {
        self.instance.step(Phase::Starting, |_| {});
        let artifact = match program {
            Program::Prepared(prepared) => return ControlFlow::Continue(prepared),
            Program::Bytes(artifact) => artifact,
        };
        let executor = Arc::clone(&self.executor);
        let prepared = tokio::select! {
            prepared = executor.prepare(&artifact) => prepared,
            stop = next_stop(&mut self.inbox) => {
                self.ended(ExitCause::StopRequested, Duration::ZERO, Decision::Stay);
                stop.answer();
                return ControlFlow::Break(());
            }
        };
        match prepared {
            Ok(prepared) => {
                self.instance.remember(prepared.clone());
                ControlFlow::Continue(prepared)
            }
            Err(error) => {
                // The same bytes would fail again in the same way, so the restart policy is not asked.
                self.ended(start_failed(&error), Duration::ZERO, Decision::Stay);
                ControlFlow::Break(())
            }
        }
    }

    /// Runs the instance as often as the restart policy says. `Break`: it was removed meanwhile.
    async fn run_and_restart(&mut self, prepared: &Prepared) -> ControlFlow<()> {
        loop {
            let begun = Instant::now();
            let (cause, stop) = self.run_once(prepared).await;
            let lasted = begun.elapsed();
            // A run that ended by itself just as somebody asked it to stop stays down all the same.
            let decision = match stop {
                Some(_) => Decision::Stay,
                None => self.restarts.decide(&cause, lasted, rand::random()),
            };
            self.ended(cause, lasted, decision);
            if let Some(stop) = stop {
                stop.answer();
            }
            let Decision::RestartAfter(wait) = decision else { return ControlFlow::Continue(()) };
            match self.wait_to_restart(wait).await {
                Restart::Now => {}
                Restart::Never => return ControlFlow::Continue(()),
                Restart::Removed => return ControlFlow::Break(()),
            }
            self.instance.step(Phase::Starting, |state| {
                state.restart_count = state.restart_count.saturating_add(1);
                state.next_restart_at = None;
            });
            self.metrics.restarted();
            if self.telling.begin(Instant::now()) {
                self.tell_restart();
            }
        }
    }

    /// One run, from launch to end, and the order that ended it, if one did.
    async fn run_once(&mut self, prepared: &Prepared) -> (ExitCause, Option<Stop>) {
        let restart_count = self.restart_count();
        let captured = self.instance.log.console(restart_count);
        let console = self.attached.clone().unwrap_or_else(|| captured.clone());
        let launch = self.launch(prepared, console);
        // A guest's start function may take for ever, so a stop is heard meanwhile. It takes the launch down with it.
        let launched = tokio::select! {
            launched = self.executor.launch(launch) => launched,
            stop = next_stop(&mut self.inbox) => {
                captured.flush();
                return (ExitCause::StopRequested, Some(stop));
            }
        };
        let mut run = match launched {
            Ok(run) => run,
            Err(error) => return (start_failed(&error), None),
        };
        self.instance.run_began(run.meter());
        let now = self.clock.now();
        self.metrics.started();
        self.instance.step(Phase::Running, |state| {
            state.started_at = Some(now);
            if self.telling.is_told() {
                self.tell_start(restart_count);
            }
        });
        let (cause, stop) = loop {
            let stop = tokio::select! {
                cause = run.exited() => break (cause, None),
                stop = next_stop(&mut self.inbox) => stop,
                () = tokio::time::sleep(BRIEF), if !self.telling.is_told() => {
                    self.catch_up();
                    continue;
                }
            };
            self.catch_up();
            self.instance.step(Phase::Stopping, |_| {
                self.facts.record(FactKind::InstanceStopping { instance: self.instance.subject() });
            });
            let stop = self.wind_down(stop).await;
            break (run.stop().await, Some(stop));
        };
        drop(run);
        self.instance.run_ended();
        captured.flush();
        (cause, stop)
    }

    /// Lets no further call through, and waits for those in flight as long as the least patient of those who asked
    /// for the stop is ready to.
    async fn wind_down(&mut self, mut stop: Stop) -> Stop {
        let begun = tokio::time::Instant::now();
        let closed = self.gate.close();
        tokio::pin!(closed);
        loop {
            let patience = tokio::time::timeout(stop.grace.saturating_sub(begun.elapsed()), &mut closed);
            let order = tokio::select! {
                // Whether they were done in time is all the same: the run is ended in either case.
                _ = patience => return stop,
                order = self.inbox.recv() => order,
            };
            match order {
                Some(Order::Stop { grace, done }) => stop.hurry(begun.elapsed().saturating_add(grace), done),
                Some(Order::Remove { done }) => answer(done, false),
                None => return stop,
            }
        }
    }

    fn launch(&self, prepared: &Prepared, console: Arc<dyn Console>) -> Launch {
        let spec = &self.instance.spec;
        let mut args = Vec::with_capacity(spec.args.len() + 1);
        args.push(spec.name.to_string());
        args.extend(spec.args.iter().cloned());
        Launch {
            instance: self.instance.id,
            prepared: prepared.clone(),
            args,
            env: spec.env.clone(),
            config: spec.config.clone(),
            limits: spec.limits.clone(),
            capabilities: self.gate.clone(),
            console,
        }
    }

    /// Takes the step out of a run (or out of the attempt) and records it.
    fn ended(&mut self, cause: ExitCause, lasted: Duration, decision: Decision) {
        let pauses = match decision {
            Decision::RestartAfter(wait) => lasted.max(wait) >= BRIEF,
            Decision::Stay | Decision::GiveUp => true,
        };
        if pauses {
            self.catch_up();
        }
        let told = self.telling.is_told();
        let at = self.clock.now();
        let next_restart_at = match decision {
            Decision::RestartAfter(wait) => Some(at.saturating_add(wait).unwrap_or(at)),
            Decision::Stay | Decision::GiveUp => None,
        };
        let crashed = cause.is_crash();
        let exit = Exit { at, cause };
        self.instance.log.host(self.restart_count(), format!("run ended after {lasted:.1?}: {}", exit.cause));
        if crashed {
            self.metrics.crashed(&exit.cause);
        }
        let phase = if crashed { Phase::Crashed } else { Phase::Stopped };
        self.instance.step(phase, |state| {
            state.last_exit = Some(exit.clone());
            state.next_restart_at = next_restart_at;
            if !told {
                return;
            }
            let (instance, restart_count) = (self.instance.subject(), state.restart_count);
            self.facts.record(match phase {
                Phase::Crashed => {
                    FactKind::InstanceCrashed { instance, exit, restart_count, next_restart_at }
                }
                _ => FactKind::InstanceStopped { instance, exit, next_restart_at },
            });
            if decision == Decision::GiveUp {
                let instance = self.instance.subject();
                self.facts.record(FactKind::RestartsExhausted { instance, restart_count });
            }
        });
    }

    /// Tells the beginning of a run that was not to be told, because it turned out to be more than one of many.
    fn catch_up(&mut self) {
        if !self.telling.catch_up() {
            return;
        }
        self.tell_restart();
        if matches!(self.instance.phase(), Phase::Running | Phase::Stopping) {
            self.tell_start(self.restart_count());
        }
    }

    fn tell_restart(&self) {
        let restart_count = self.restart_count();
        self.facts.record(FactKind::InstanceRestarted { instance: self.instance.subject(), restart_count });
    }

    fn tell_start(&self, restart_count: u32) {
        self.facts.record(FactKind::InstanceStarted { instance: self.instance.subject(), restart_count });
    }

    /// Waits out a backoff, unless an order comes first.
    async fn wait_to_restart(&mut self, wait: Duration) -> Restart {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let order = tokio::select! {
                () = tokio::time::sleep_until(until) => return Restart::Now,
                order = self.inbox.recv() => order,
            };
            match order {
                Some(Order::Stop { done, .. }) => {
                    self.give_up_restart();
                    answer(done, ());
                    return Restart::Never;
                }
                Some(Order::Remove { done }) => answer(done, false),
                None => return Restart::Removed,
            }
        }
    }

    /// Somebody stopped the instance while it waited: nothing runs, so nothing ends, but nothing will run either.
    fn give_up_restart(&self) {
        let at = self.clock.now();
        let exit = Exit { at, cause: ExitCause::StopRequested };
        let record = |state: &mut State| {
            state.next_restart_at = None;
            let instance = self.instance.subject();
            self.facts.record(FactKind::InstanceStopped { instance, exit, next_restart_at: None });
        };
        let waits_stopped = self.instance.state().borrow().phase == Phase::Stopped;
        if waits_stopped {
            self.instance.amend(record);
        } else {
            // What the last run ended by stays what it was; only the waiting ends.
            self.instance.step(Phase::Stopped, record);
        }
    }

    /// Answers orders after the end, until one says to forget the instance.
    async fn rest(&mut self) {
        while let Some(order) = self.inbox.recv().await {
            match order {
                Order::Stop { done, .. } => answer(done, ()),
                Order::Remove { done } => {
                    answer(done, true);
                    return;
                }
            }
        }
    }

    fn restart_count(&self) -> u32 {
        self.instance.state().borrow().restart_count
    }
}

/// What came of waiting for a restart.
enum Restart {
    Now,
    Never,
    Removed,
}

/// An order to stop, or several that came while the first was being carried out.
struct Stop {
    grace: Duration,
    done: Vec<oneshot::Sender<()>>,
}

impl Stop {
    /// Another order, which allows `grace` since the first one.
    fn hurry(&mut self, grace: Duration, done: oneshot::Sender<()>) {
        self.grace = self.grace.min(grace);
        // Who lost interest leaves no trace, however often that happens.
        self.done.retain(|done| !done.is_closed());
        self.done.push(done);
    }

    fn answer(self) {
        self.done.into_iter().for_each(|done| answer(done, ()));
    }
}

/// The next order to stop. Orders to remove that come before it are refused: something runs. When nobody is left who
/// could give orders, that is an order to stop too. Cancel-safe.
async fn next_stop(inbox: &mut mpsc::Receiver<Order>) -> Stop {
    loop {
        match inbox.recv().await {
            Some(Order::Stop { grace, done }) => return Stop { grace, done: vec![done] },
            Some(Order::Remove { done }) => answer(done, false),
            None => return Stop { grace: Duration::ZERO, done: Vec::new() },
        }
    }
}

fn start_failed(error: &Error) -> ExitCause {
    let chain = error.chain();
    let message = match clip(&chain, START_MESSAGE_BYTES_MAX) {
        (whole, false) => whole.to_owned(),
        (cut, true) => format!("{cut}…"),
    };
    ExitCause::StartFailed { code: error.kind().code(), message }
}

/// Answers whoever gave an order. One that went away meanwhile misses the answer, not the deed.
fn answer<T>(done: oneshot::Sender<T>, answer: T) {
    let _ = done.send(answer);
}

#[cfg(test)]
mod tests;
