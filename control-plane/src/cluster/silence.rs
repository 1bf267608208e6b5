//! What follows from silence: nodes are judged by the timetable, and what is at a lost one can't be known any more.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use wasmatrix_model::{FactKind, NodePhase};

use super::Cluster;
use crate::{
    mirror::subject,
    nodes::{Node, State},
    succession,
};

/// A phase changes late by this part of a heartbeat at most, so that among many nodes not each change is an occasion of
/// its own to look at all of them.
const LATE: u32 = 20;

impl Cluster {
    /// Judges every node by its silence, again and again.
    pub(crate) async fn watch_over(self: Arc<Self>) {
        let mut due = Instant::now();
        loop {
            self.excuse(due.elapsed());
            due = Instant::now() + self.sweep();
            tokio::time::sleep_until(due).await;
        }
    }

    /// Whoever slept too long has heard nobody, and must not blame the nodes: a control plane that was stopped for a
    /// minute would take all of them for lost.
    fn excuse(&self, late: Duration) {
        if late < self.timetable.heartbeat {
            return;
        }
        tracing::warn!(
            ?late,
            "the control plane itself was held up; no node's silence is counted for that time"
        );
        for node in self.nodes.all() {
            let mut state = node.lock();
            state.heard = (state.heard + late).min(Instant::now());
        }
    }

    /// Judges every node by its silence, and says when to do so again. No later than somebody who is heard from now on
    /// could be suspect, so nobody need be told of new nodes.
    fn sweep(self: &Arc<Self>) -> Duration {
        let mut wait = self.timetable.suspect_after;
        for node in self.nodes.all() {
            let mut state = node.lock();
            if state.last_seen_at.is_none() || state.forgotten {
                continue;
            }
            let silent_for = state.heard.elapsed();
            let phase = self.timetable.phase(silent_for);
            if phase > state.phase {
                self.silent(&node, &mut state, phase, silent_for);
            }
            wait = wait.min(self.timetable.next_change(silent_for).unwrap_or(wait));
        }
        wait.max(self.timetable.heartbeat / LATE)
    }

    fn silent(self: &Arc<Self>, node: &Arc<Node>, state: &mut State, phase: NodePhase, silent_for: Duration) {
        let reason = format!("silent for {:.1} s", silent_for.as_secs_f64());
        state.phase = phase;
        state.reason = Some(reason.clone());
        self.phase_changed(node, phase, reason.clone());
        if phase == NodePhase::Lost {
            if let Some(link) = state.link.take() {
                link.gone.cancel();
            }
            if let Some(discovery) = &self.discovery {
                discovery.withdraw(&node.id);
            }
            self.lose(node, &format!("node {} is lost: {reason}", node.id));
        }
    }

    /// What was there can't be known any more; what may be restarted elsewhere is.
    fn lose(self: &Arc<Self>, node: &Arc<Node>, reason: &str) {
        for status in self.mirror.unknown(&node.id, self.clock.now(), reason) {
            self.record.record(FactKind::InstanceUnknown {
                instance: subject(&status),
                node: node.id.clone(),
                last_phase: status.unknown.as_ref().map_or(status.phase, |unknown| unknown.last_phase),
            });
            if succession::deserves(&status) {
                succession::begin(self, Arc::new(status), succession::Cause::NodeLost);
            }
        }
    }
}
