//! `doctor`: what this host can run, and why not.
//!
//! Asks the same code that `up` would use for the executors, and [`probe`]s the machine for what makes them fail
//! later: limits of the system that are too low for many instances, directories that can't be written. [`reach`]
//! asks whether certificates are good and a control plane answers.

mod probe;
mod reach;

use serde::Serialize;
use wasmatrix_agent::Config;
use wasmatrix_model::{ExecutorKind, NodeId, Timestamp};

use crate::{
    args::{Doctor, Global},
    dirs,
    error::{CliError, Exit, chain},
    output::{Column, Document, Printer, Row},
};

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and will stand in somebody's way.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    name: String,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    /// Something that is as it should be.
    pub(crate) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    /// Something that is not.
    pub(crate) fn not(
        verdict: Verdict,
        name: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), verdict, found: found.into(), remedy: Some(remedy.into()) }
    }
}

impl Document for Check {
    const KIND: &'static str = "Check";

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for Check {
    const COLUMNS: &'static [Column] =
        &[Column::new("CHECK"), Column::new("VERDICT"), Column::new("FOUND"), Column::new("WHAT TO DO")];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.verdict.as_str().to_owned(),
            self.found.clone(),
            self.remedy.clone().unwrap_or_default(),
        ]
    }
}

/// Looks at this host; the exit code says whether instances can be run on wasmtime.
pub(crate) async fn doctor(args: &Doctor, global: &Global, out: &mut Printer) -> Result<Exit, CliError> {
    let mut checks = executors().await;
    let usable =
        checks.iter().any(|check| check.verdict == Verdict::Ok && check.name == name(ExecutorKind::Wasmtime));
    checks.extend(probe::machine());
    checks.push(probe::directory("data directory", args.data_dir.clone().or_else(dirs::data), "--data-dir"));
    checks.push(probe::directory(
        "cache directory",
        args.cache_dir.clone().or_else(dirs::cache),
        "--cache-dir",
    ));
    checks.extend(reach::certificates(global));
    checks.push(reach::control_plane(global).await);
    out.list(&checks)?;
    if usable {
        out.say("this host can run instances");
        return Ok(Exit::Ok);
    }
    out.say("this host can't run instances");
    Ok(Exit::Failed)
}

fn name(kind: ExecutorKind) -> String {
    format!("executor {kind}")
}

/// Each executor, as the node that `up` would build here describes it.
async fn executors() -> Vec<Check> {
    let id: NodeId = "doctor".parse().expect("it is a legal name");
    let node = match Config::new(id).build().await {
        Ok(agent) => agent.describe(),
        Err(error) => {
            return vec![Check::not(
                Verdict::Failed,
                name(ExecutorKind::Wasmtime),
                chain(&error),
                "no instance can be run here until this is mended",
            )];
        }
    };
    let described = node.executors.into_iter().map(|executor| match executor.unavailable {
        None => Check::ok(name(executor.kind), "can be used"),
        Some(why) => {
            // Without the micro-VM there is still an executor; without wasmtime there is none.
            let verdict = match executor.kind {
                ExecutorKind::Wasmtime => Verdict::Failed,
                ExecutorKind::Microvm => Verdict::Warning,
            };
            Check::not(verdict, name(executor.kind), why, "")
        }
    });
    described.collect()
}
