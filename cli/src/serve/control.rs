//! A control plane: its sockets, its certificates, and its end.

use std::{net::SocketAddr, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use futures::stream::select_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wasmatrix_control_plane::{Config, ControlPlane, Dial, PlainText, ServeError, Timetable, dial::Proven};
use wasmatrix_identity::{ClientCertificate, Host, Incoming};

use super::{certified::ControlCerts, discovery::discovery, listen, place, tell};
use crate::{
    args::{self, ADDR_DEFAULT, ControlArgs, Global},
    certs,
    error::{CliError, Exit, chain},
    run::{RunExit, Signals},
};

/// How long the certificates of nodes may be good.
const NODE_CERTS_VALID_FOR: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(365 * 24 * 60 * 60);

/// The sockets at which a control plane answers.
pub(super) struct Doors {
    incoming: Vec<Incoming>,
    /// Where this machine reaches it.
    pub(super) url: String,
    /// For other machines.
    pub(super) cluster: Option<ClusterDoor>,
}

/// The socket for other machines.
pub(super) struct ClusterDoor {
    pub(super) certs: ControlCerts,
    /// `HOST:PORT` at which they reach it, as far as can be known here.
    pub(super) authority: String,
}

impl Doors {
    /// Opens them; makes the certificates that they take.
    ///
    /// # Errors
    /// An address can't be listened at or must not be, certificates can't be made or used.
    pub(super) async fn open(args: &ControlArgs, data_dir: &Path, global: &Global) -> Result<Self, CliError> {
        let (plain, addr) = listen::plain(args.listen, "--listen", global).await?;
        let mut incoming = vec![plain];
        let cluster = match args.cluster_listen {
            None => None,
            Some(wanted) => {
                let (tls, door) = ClusterDoor::open(wanted, args, data_dir).await?;
                incoming.push(tls);
                Some(door)
            }
        };
        Ok(Self { incoming, url: format!("http://{addr}"), cluster })
    }
}

impl ClusterDoor {
    async fn open(
        wanted: SocketAddr,
        args: &ControlArgs,
        data_dir: &Path,
    ) -> Result<(Incoming, Self), CliError> {
        let own =
            if wanted.ip().is_unspecified() { listen::own_address(None).await } else { Some(wanted.ip()) };
        let mut hosts = args.hosts.clone();
        hosts.extend(own.map(Host::Ip));
        if args.node_certs_valid_for.is_some_and(|valid| !NODE_CERTS_VALID_FOR.contains(&valid)) {
            return Err(CliError::usage("--node-certs-valid-for takes 10 s to 365 d"));
        }
        let certs = ControlCerts::prepare(&data_dir.join(certs::DIR), &hosts, args.node_certs_valid_for)?;
        let credentials = &certs.certified.credentials;
        // Who joins has no certificate yet.
        let optional = ClientCertificate::Optional;
        let (incoming, addr) = listen::tls(wanted, "--cluster-listen", credentials, optional).await?;
        let authority = match (own, args.hosts.first()) {
            (Some(ip), _) => SocketAddr::new(ip, addr.port()).to_string(),
            (None, Some(host)) => format!("{host}:{}", addr.port()),
            (None, None) => addr.to_string(),
        };
        certs.renew(hosts);
        Ok((incoming, Self { certs, authority }))
    }
}

/// The settings that the flags give, but for what is in the process beside it.
pub(super) fn config(args: &ControlArgs, doors: &Doors, global: &Global) -> Config {
    let plain_text = PlainText { beyond_loopback: global.insecure_plaintext_i_trust_this_network };
    let dial: Arc<dyn Dial> = match &doors.cluster {
        Some(door) => Arc::new(Proven { credentials: door.certs.certified.credentials.clone(), plain_text }),
        None => Arc::new(plain_text),
    };
    Config {
        timetable: Timetable {
            heartbeat: args.heartbeat,
            suspect_after: args.suspect_after,
            lost_after: args.lost_after,
        },
        dial,
        joining: doors.cluster.as_ref().map(|door| Arc::clone(&door.certs.joining)),
        ..Config::default()
    }
}

/// A control plane that answers.
pub(super) struct Serving {
    task: JoinHandle<Result<(), ServeError>>,
    draining: CancellationToken,
}

impl Serving {
    pub(super) fn begin(doors: Vec<Incoming>, plane: ControlPlane, grace: Duration) -> Self {
        let draining = CancellationToken::new();
        let told = draining.clone();
        for door in &doors {
            plane.record_refusals(door.refusals());
        }
        let serving = wasmatrix_control_plane::serve(
            select_all(doors),
            plane,
            async move { told.cancelled().await },
            grace,
        );
        Self { task: tokio::spawn(serving), draining }
    }

    /// Ends when it ends by itself, which it should not. Cancel-safe.
    pub(super) async fn failed(&mut self) -> CliError {
        let reason = match (&mut self.task).await {
            Ok(Ok(())) => "it ended for no reason that it knows of".to_owned(),
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        CliError::Host { message: format!("the control plane ended: {reason}") }
    }

    /// Takes nothing new from now on.
    pub(super) fn drain(&self) {
        self.draining.cancel();
    }

    /// Waits until what is in flight is done, at most for the grace period.
    async fn ended(&mut self) {
        let _ = (&mut self.task).await; // it is over, however it ended
    }

    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

impl Doors {
    /// Hands out the sockets, once.
    pub(super) fn take(&mut self) -> Vec<Incoming> {
        std::mem::take(&mut self.incoming)
    }

    /// What is said of them: where clients of this machine ask, and others.
    pub(super) fn greeting(&self) -> String {
        self.cluster.as_ref().map_or_else(String::new, |door| {
            format!(
                "  cluster   https://{}\n  certs     {} (for clients on other machines)\n",
                door.authority,
                door.certs.admin.display()
            )
        })
    }

    /// The flag by which a client finds it.
    pub(super) fn addr_flag(&self) -> String {
        if self.url == ADDR_DEFAULT { String::new() } else { format!("--addr {} ", self.url) }
    }
}

/// Runs a control plane until a signal comes, and gives the exit code.
///
/// # Errors
/// It could not begin, or ended by itself.
pub(crate) async fn control_plane(args: args::ControlPlane, global: &Global) -> Result<u8, CliError> {
    let mut signals = Signals::listen()?;
    let data_dir = place::data_dir(&args.place)?;
    let mut doors = Doors::open(&args.control, &data_dir, global).await?;
    let discovery = discovery(&args, global)?;
    let config = Config { settle: args.settle, discovery, ..config(&args.control, &doors, global) };
    let plane = config.begin()?;
    let mut serving = Serving::begin(doors.take(), plane.clone(), args.place.grace);
    if let Some(door) = &doors.cluster {
        door.certs.certified.reload_on_hangup();
    }
    greet(&doors, &plane, global).await;
    let signal = tokio::select! {
        signal = signals.next() => signal,
        failed = serving.failed() => return Err(failed),
    };
    tracing::info!(?signal, grace = ?args.place.grace, "draining; a second signal ends it at once");
    serving.drain();
    let code = tokio::select! {
        () = serving.ended() => Exit::Ok as u8,
        again = signals.next() => RunExit::Interrupted(again).code(),
    };
    serving.abort();
    Ok(code)
}

async fn greet(doors: &Doors, plane: &ControlPlane, global: &Global) {
    let (version, url) = (env!("CARGO_PKG_VERSION"), &doors.url);
    let join = super::join::invitation(doors, plane).await;
    let agent = format!("wasmatrix agent --control-plane {url}");
    tell(
        global,
        &format!(
            "wasmatrix {version} control plane listens at {url}\n{}{join}A node on this machine: {agent}\n\
             Ctrl-C ends it; instances go on.\n",
            doors.greeting()
        ),
    );
}
