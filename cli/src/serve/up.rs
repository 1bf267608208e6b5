//! `up`: control plane and node in one process. They speak gRPC with each other as they would between machines, over
//! pipes in memory; clients come over a loopback port, and other machines over TLS if they may come at all.

use wasmatrix_agent::{attend::Attendance, server};
use wasmatrix_control_plane::Config;
use wasmatrix_model::NodeId;

use super::{
    control::{self, Doors, Serving},
    join,
    node::Node,
    place, tell,
};
use crate::{
    args::{Global, Up},
    error::{CliError, chain},
    run::Signals,
};

/// What a node is called that is the only one.
const ALONE: &str = "local";

/// Runs until a signal comes, and gives the exit code.
///
/// # Errors
/// It could not begin: an address is not ours to listen at, a store can't be opened.
pub(crate) async fn up(args: Up, global: &Global) -> Result<u8, CliError> {
    let mut signals = Signals::listen()?;
    let data_dir = place::data_dir(&args.place)?;
    let mut doors = Doors::open(&args.control, &data_dir, global).await?;
    let id: NodeId = match (&args.node.node, &doors.cluster) {
        (None, None) => ALONE.parse()?,
        (told, _) => place::node_id(&data_dir, told.as_ref())?,
    };
    let node = Node::build(&args.node, id.clone(), &data_dir, String::new()).await?;
    let host = |error: &(dyn std::error::Error + 'static)| CliError::Host { message: chain(error) };
    let channel = server::in_process(node.agent.clone()).map_err(|error| host(&error))?;
    let alone = Config::of_one_process(id, channel);
    let config = control::config(&args.control, &doors, global);
    let plane = Config { settle: alone.settle, local: alone.local, ..config }.begin()?;
    let way = plane.clone();
    let attendance = Attendance::begin(node.agent.clone(), std::sync::Arc::new(move || Ok(way.in_process())))
        .map_err(|error| host(&error))?;
    let mut serving = Serving::begin(doors.take(), plane.clone(), args.place.grace);
    if let Some(door) = &doors.cluster {
        door.certs.certified.reload_on_hangup();
    }
    let (version, url, flag) = (env!("CARGO_PKG_VERSION"), &doors.url, doors.addr_flag());
    let (node_greeting, cluster) = (&node.greeting, doors.greeting());
    let invitation = join::invitation(&doors, &plane).await;
    tell(
        global,
        &format!(
            "wasmatrix {version} listens at {url}\n{node_greeting}{cluster}{invitation}\
             In another terminal: wasmatrix {flag}start app.wasm; wasmatrix {flag}ps\n\
             Ctrl-C drains and ends it.\n"
        ),
    );
    let signal = tokio::select! {
        signal = signals.next() => signal,
        failed = serving.failed() => return Err(failed),
    };
    tracing::info!(?signal, grace = ?args.place.grace, "draining; a second signal ends it at once");
    serving.drain();
    let code = node.drain(args.place.grace, &mut signals).await;
    serving.abort();
    drop(attendance);
    Ok(code)
}
