//! What this user can reach: certificates that are good, a control plane that answers.

use std::{path::Path, sync::Arc};

use wasmatrix_identity::{Credentials, credentials::CERT_FILE};
use wasmatrix_model::{Clock, NodePhase, SystemClock};

use super::{Check, Verdict};
use crate::{
    args::{ADDR_DEFAULT, Global},
    certs,
    client::Client,
    dirs,
    error::{CliError, chain},
    output::human,
};

/// Every certificate that lies where they lie by default, and the one that --certs names.
pub(crate) fn certificates(global: &Global) -> Vec<Check> {
    let own = dirs::certs()
        .into_iter()
        .flat_map(|certs| [certs::ADMIN, certs::CONTROL_PLANE, certs::NODE].map(|name| certs.join(name)));
    let mut checks: Vec<Check> =
        own.filter(|dir| dir.join(CERT_FILE).exists()).map(|dir| certificate(&dir)).collect();
    if let Some(dir) = &global.certs {
        checks.push(certificate(dir));
    }
    if checks.is_empty() {
        checks.push(Check::ok("certificates", "none; only other machines ask for them"));
    }
    checks
}

fn certificate(dir: &Path) -> Check {
    let name = "certificate";
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match Credentials::load(dir, &clock) {
        Err(error) => Check::not(Verdict::Warning, name, chain(&error), ""),
        Ok(credentials) => {
            let identity = credentials.identity();
            let left = human::until(identity.not_after, clock.now());
            let found = format!("{}, in {}, good for {left}", identity.role, dir.display());
            if identity.renewal_due(clock.now()) {
                return Check::not(
                    Verdict::Warning,
                    name,
                    found,
                    "renew it with `wasmatrix certs issue --force`",
                );
            }
            Check::ok(name, found)
        }
    }
}

/// Whether a control plane answers where the flags say.
pub(crate) async fn control_plane(global: &Global) -> Check {
    const NAME: &str = "control plane";
    let addr = &global.addr;
    let nodes = match Client::connect(global).await {
        Ok(client) => client.nodes().await,
        Err(error) => Err(error),
    };
    match nodes {
        Ok(nodes) => {
            let ready = nodes.iter().filter(|node| node.phase == NodePhase::Ready).count();
            let found = format!("answers at {addr}: {ready} of {} nodes ready", nodes.len());
            if ready < nodes.len() {
                return Check::not(Verdict::Warning, NAME, found, "see `wasmatrix node list -o wide`");
            }
            Check::ok(NAME, found)
        }
        // Nobody said that there is one.
        Err(CliError::Unreachable { .. }) if addr == ADDR_DEFAULT => {
            Check::ok(NAME, format!("none at {addr}; `wasmatrix up` starts one"))
        }
        Err(error) => Check::not(Verdict::Warning, NAME, error.to_string(), error.hint().unwrap_or_default()),
    }
}
