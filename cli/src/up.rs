//! `up`: control plane and node in one process. They speak gRPC with each other as they would between machines, over
//! a pipe in memory; clients come over a loopback port.
//!
//! ```text
//!  clients ──► control plane ──► agent      until a signal comes
//!                                            │
//!              takes nothing new ◄── drain ──┴──► instances stop, providers close      within --grace
//!                                            └─ second signal ──► ends at once
//! ```

mod http;

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wasmatrix_agent::{Agent, Config, KvBackend, attend::Attendance};
use wasmatrix_control_plane::ControlPlane;
use wasmatrix_identity::Incoming;

use crate::{
    args::{ADDR_DEFAULT, Global, KvPlace, Up},
    dirs,
    error::{CliError, Exit, chain},
    run::{RunExit, Signals, cache_dir, kv_backend},
};

/// Runs until a signal comes, and gives the exit code.
///
/// # Errors
/// It could not begin: the address is not ours to listen at, a store can't be opened.
pub(crate) async fn up(args: Up, global: &Global) -> Result<u8, CliError> {
    refuse_strangers(args.listen)?;
    let mut signals = Signals::listen()?;
    let listener = bind(args.listen, "--listen").await?;
    let metrics_listener = match args.metrics_listen {
        Some(addr) => Some(bind(addr, "--metrics-listen").await?),
        None => None,
    };
    let metrics_addr = metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let kv = kv(&args)?;
    let mut config = Config::new(args.node.clone());
    config.kv = kv.clone();
    config.cache_dir = cache_dir(&args.cache);
    config.instances_max = args.instances_max.unwrap_or(Config::INSTANCES_MAX);
    let agent = config.build().await.map_err(|error| CliError::Host { message: chain(&error) })?;
    let (control_plane, _attendance) = control_plane(&args, &agent)?;

    let draining = CancellationToken::new();
    let http = metrics_listener.map(|listener| http::serve(listener, agent.clone(), draining.clone()));
    if !global.quiet {
        let metrics =
            metrics_addr.map(|addr| format!("  metrics   http://{addr}/metrics\n")).unwrap_or_default();
        greet(&args, listener.local_addr()?, &kv, &metrics);
    }
    let told = draining.clone();
    let serving = wasmatrix_control_plane::serve(
        Incoming::plain(listener),
        control_plane,
        async move { told.cancelled().await },
        args.grace,
    );
    let serving = tokio::spawn(serving);
    // What a signal asks for, and what is to be heard of the server itself.
    let abort_handle = serving.abort_handle();
    let signal = tokio::select! {
        signal = signals.next() => signal,
        served = serving => return Err(ended_by_itself(served)),
    };
    tracing::info!(?signal, grace = ?args.grace, "draining; a second signal ends it at once");
    draining.cancel();
    let exit = tokio::select! {
        () = agent.shutdown(args.grace) => Exit::Ok as u8,
        again = signals.next() => RunExit::Interrupted(again).code(),
    };
    abort_handle.abort();
    if let Some(http) = http {
        http.abort();
    }
    Ok(exit)
}

/// The control plane of this process, which the node of this process attends as it would one elsewhere.
fn control_plane(args: &Up, agent: &Agent) -> Result<(ControlPlane, Attendance), CliError> {
    let host = |message| CliError::Host { message };
    let channel = wasmatrix_agent::server::in_process(agent.clone()).map_err(|error| host(chain(&error)))?;
    let config = wasmatrix_control_plane::Config::of_one_process(args.node.clone(), channel);
    let control_plane = config.begin().map_err(|invalid| CliError::usage(invalid.to_string()))?;
    let attended = control_plane.clone();
    let attendance = Attendance::begin(agent.clone(), Arc::new(move || Ok(attended.in_process())))
        .map_err(|error| host(format!("no thread for the node's attendance: {error}")))?;
    Ok((control_plane, attendance))
}

fn ended_by_itself(
    served: Result<Result<(), wasmatrix_control_plane::ServeError>, tokio::task::JoinError>,
) -> CliError {
    let reason = match served {
        Ok(Ok(())) => "it ended for no reason that it knows of".to_owned(),
        Ok(Err(error)) => chain(&error),
        Err(error) => chain(&error),
    };
    CliError::Host { message: format!("the control plane ended: {reason}") }
}

/// Whoever can reach the port can run programs: there is no authentication yet.
fn refuse_strangers(listen: SocketAddr) -> Result<(), CliError> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "--listen {listen} can be reached from other machines, and this version authenticates nobody: listen at \
         127.0.0.1 or [::1], and forward the port by SSH if you need it elsewhere"
    )))
}

async fn bind(addr: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(addr).await.map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{addr} is in use; another Wasmatrix may be running there (`wasmatrix version` tells): choose another \
                 port with {flag}"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("listening at {addr} is not allowed: choose a port above 1023 with {flag}")
            }
            _ => format!("can't listen at {addr}: {error}"),
        };
        CliError::Host { message }
    })
}

/// Where key-value data is kept; the directory is made, for the user alone.
fn kv(args: &Up) -> Result<KvBackend, CliError> {
    if let Some(place) = &args.kv {
        return Ok(kv_backend(place));
    }
    let no_home = || {
        CliError::usage("there is no home directory: say where data is kept with --data-dir, or --kv memory")
    };
    let dir: PathBuf = args.data_dir.clone().or_else(dirs::data).ok_or_else(no_home)?;
    make_private(&dir).map_err(|error| CliError::file(&dir, &error))?;
    Ok(kv_backend(&KvPlace::File(dir.join("kv.redb"))))
}

fn make_private(dir: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Says where it listens and what to type next.
fn greet(args: &Up, addr: SocketAddr, kv: &KvBackend, metrics: &str) {
    use std::io::Write as _;
    let (node, version) = (&args.node, env!("CARGO_PKG_VERSION"));
    let kept = match kv {
        KvBackend::Memory => "in memory, gone when this ends".to_owned(),
        KvBackend::File(path) => path.display().to_string(),
    };
    let url = format!("http://{addr}");
    let flag = if url == ADDR_DEFAULT { String::new() } else { format!("--addr {url} ") };
    let text = format!(
        "wasmatrix {version} listens at {url}\n  node      {node}\n  key-value {kept}\n{metrics}\
         In another terminal: wasmatrix {flag}start app.wasm; wasmatrix {flag}ps\n\
         Ctrl-C drains and ends it.\n"
    );
    let _ = io::stderr().write_all(text.as_bytes()); // with standard error gone there is nobody to tell
}
