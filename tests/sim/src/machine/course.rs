//! What happens by itself on a simulated node: starts come to an end, runs end, the restart policy begins new ones.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};
use wasmatrix_model::{Exit, ExitCause, FactKind, InstanceId, Phase};

use super::{Inner, Machine};
use crate::lives::{Follows, follows};

/// What is to come, by when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    items: BTreeMap<(Instant, u64), Item>,
    numbered: u64,
}

#[derive(Debug)]
struct Item {
    id: InstanceId,
    turn: u64,
    due: Due,
}

/// Something that is due.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// The run begins, or could not.
    Begin,
    /// The run ends.
    End(ExitCause),
    /// The restart policy begins another.
    Restart,
}

impl Machine {
    /// Lets happen what happens by itself, for as long as it is polled.
    pub async fn live(&self) {
        loop {
            let planned = self.planned.notified();
            let next = self.lock().agenda.items.keys().next().map(|(at, _)| *at);
            match next {
                Some(at) if at <= Instant::now() => self.take_turn(),
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = planned => {}
                },
                None => planned.await,
            }
        }
    }

    fn take_turn(&self) {
        let mut inner = self.lock();
        let Some((_, Item { id, turn, due })) = inner.agenda.items.pop_first() else { return };
        if inner.instances.get(&id).is_none_or(|entry| entry.turn != turn) {
            return;
        }
        match due {
            Due::Begin => self.begin_run(&mut inner, id),
            Due::End(cause) => {
                let asked = cause == ExitCause::StopRequested;
                self.end(&mut inner, id, cause, asked);
            }
            Due::Restart => {
                self.amend(&mut inner, id, |entry| {
                    entry.status.next_restart_at = None;
                    entry.status.restart_count = entry.status.restart_count.saturating_add(1);
                    let (instance, restart_count) = (entry.subject(), entry.status.restart_count);
                    self.facts.record(FactKind::InstanceRestarted { instance, restart_count });
                });
                self.begin_start(&mut inner, id);
            }
        }
    }

    /// Plans what is next for an instance; what was planned before is not.
    pub(super) fn plan(&self, inner: &mut Inner, id: InstanceId, after: Duration, due: Due) {
        let Some(entry) = inner.instances.get_mut(&id) else { return };
        entry.turn += 1;
        let item = Item { id, turn: entry.turn, due };
        inner.agenda.numbered += 1;
        inner.agenda.items.insert((Instant::now() + after, inner.agenda.numbered), item);
        self.planned.notify_one();
    }

    pub(super) fn begin_start(&self, inner: &mut Inner, id: InstanceId) {
        let Some(starts) = self.amend(inner, id, |entry| {
            entry.status.phase = Phase::Starting;
            let status = &entry.status;
            let fate = self.traits.lives.fate(
                self.traits.seed,
                &status.spec.name,
                status.restart_count,
                &status.spec.config,
            );
            fate.start
        }) else {
            return;
        };
        if starts.is_zero() {
            self.begin_run(inner, id);
        } else {
            self.plan(inner, id, starts, Due::Begin);
        }
    }

    fn begin_run(&self, inner: &mut Inner, id: InstanceId) {
        let Some(status) = inner.instances.get(&id).map(|entry| &entry.status) else { return };
        let fate = self.traits.lives.fate(
            self.traits.seed,
            &status.spec.name,
            status.restart_count,
            &status.spec.config,
        );
        let end = match fate.end {
            Ok(end) => end,
            Err(cause) => return self.end(inner, id, cause, false),
        };
        let now = self.now();
        self.amend(inner, id, |entry| {
            entry.status.phase = Phase::Running;
            entry.status.started_at = Some(now);
            let (instance, restart_count) = (entry.subject(), entry.status.restart_count);
            self.facts.record(FactKind::InstanceStarted { instance, restart_count });
            entry.says(now, format!("run {restart_count} began"));
        });
        if let Some(run) = fate.run {
            self.plan(inner, id, run, Due::End(end));
        }
    }

    /// Ends a run, or the attempt at one, and asks the restart policy unless somebody wanted that end.
    pub(super) fn end(&self, inner: &mut Inner, id: InstanceId, cause: ExitCause, asked: bool) {
        let now = self.now();
        let wait = self.amend(inner, id, |entry| {
            let status = &entry.status;
            let lives = &self.traits.lives;
            let chance = lives
                .fate(self.traits.seed, &status.spec.name, status.restart_count, &status.spec.config)
                .chance;
            let lasted = match (status.phase, status.started_at) {
                (Phase::Running | Phase::Stopping, Some(began)) => now.duration_since(began).unsigned_abs(),
                _ => Duration::ZERO,
            };
            // What can't be started fails again in the same way.
            let hopeless = matches!(cause, ExitCause::StartFailed { .. });
            let next = if asked || hopeless {
                Follows::Nothing
            } else {
                follows(&status.spec.restart, &cause, lasted, &mut entry.in_a_row, chance)
            };
            let wait = match next {
                Follows::Restart(wait) => Some(wait),
                Follows::Nothing | Follows::GivenUp => None,
            };
            let next_restart_at = wait.map(|wait| now.saturating_add(wait).unwrap_or(now));
            let exit = Exit { at: now, cause };
            let (crashed, restart_count) = (exit.cause.is_crash(), entry.status.restart_count);
            entry.says(now, format!("run {restart_count} ended: {}", exit.cause));
            entry.turn += 1;
            entry.status.phase = if crashed { Phase::Crashed } else { Phase::Stopped };
            entry.status.last_exit = Some(exit.clone());
            entry.status.next_restart_at = next_restart_at;
            let instance = entry.subject();
            self.facts.record(if crashed {
                FactKind::InstanceCrashed { instance, exit, restart_count, next_restart_at }
            } else {
                FactKind::InstanceStopped { instance, exit, next_restart_at }
            });
            if next == Follows::GivenUp {
                let instance = entry.subject();
                self.facts.record(FactKind::RestartsExhausted { instance, restart_count });
            }
            wait
        });
        if let Some(wait) = wait.flatten() {
            self.plan(inner, id, wait, Due::Restart);
        }
    }
}
