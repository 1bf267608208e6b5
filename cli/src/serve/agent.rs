//! A node without a control plane in its process: `agent`, and what `join` becomes when it has a certificate.

use std::{net::SocketAddr, path::Path};

use wasmatrix_agent::attend::{Attendance, Connect, Standing};
use wasmatrix_identity::{ClientCertificate, Incoming, Role};
use wasmatrix_model::NodeId;

use super::{
    certified::Certified,
    listen,
    node::Node,
    place, renewal, tell, warn_of_plaintext,
    ways::{to_control_plane, to_control_plane_in_plain_text},
};
use crate::{
    args::{self, Global, NodeArgs, PlaceArgs},
    certs,
    client::is_loopback,
    error::{CliError, chain},
    run::Signals,
};

/// Runs a node until a signal comes, and gives the exit code.
///
/// # Errors
/// It could not begin.
pub(crate) async fn agent(args: args::Agent, global: &Global) -> Result<u8, CliError> {
    let mut signals = Signals::listen()?;
    let data_dir = place::data_dir(&args.place)?;
    let url = &args.control_plane;
    let Some(("http", authority)) = url.split_once("://") else {
        let dir = global.certs.clone().unwrap_or_else(|| data_dir.join(certs::DIR).join(certs::NODE));
        let certified = Certified::open(&dir)?;
        if args.no_renew {
            renewal::leave(&certified.credentials, "--no-renew says so");
        } else {
            renewal::keep_renewed_or_say(&certified.credentials, url);
        }
        let member = Member { url, listen: args.listen, advertise: args.advertise.as_deref() };
        return member.run(certified, &args.node, &args.place, &data_dir, &mut signals, global).await;
    };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if !is_loopback(host) {
        if !global.insecure_plaintext_i_trust_this_network {
            return Err(CliError::usage(format!(
                "{url} is not on this machine, and http:// is plain text: write https://{authority}, or let `wasmatrix join \
                 {authority}` get a certificate"
            )));
        }
        warn_of_plaintext(&format!("{url} is spoken to"));
    }
    let connect = to_control_plane_in_plain_text(url).map_err(CliError::usage)?;
    let (incoming, addr) = listen::plain(args.listen, "--listen", global).await?;
    let address = format!("http://{}", reached_at(addr, args.advertise.as_deref(), authority).await);
    let id = place::node_id(&data_dir, args.node.node.as_ref())?;
    let node = Node::build(&args.node, id, &data_dir, address).await?;
    let ways = Ways { incoming, connect };
    run(node, ways, &args.place, url, &mut signals, global).await
}

/// A node with a certificate: whom it attends, and where it is reached.
pub(super) struct Member<'a> {
    pub(super) url: &'a str,
    pub(super) listen: SocketAddr,
    pub(super) advertise: Option<&'a str>,
}

impl Member<'_> {
    /// Runs the node that the certificate is of.
    ///
    /// # Errors
    /// The certificate is not a node's, or another node's than was named; it could not begin.
    pub(super) async fn run(
        &self,
        certified: Certified,
        args: &NodeArgs,
        place: &PlaceArgs,
        data_dir: &Path,
        signals: &mut Signals,
        global: &Global,
    ) -> Result<u8, CliError> {
        let credentials = &certified.credentials;
        let id = node_of(&credentials.current().identity().role, credentials.dir(), args.node.as_ref())?;
        let connect = to_control_plane(credentials, self.url).map_err(CliError::usage)?;
        let required = ClientCertificate::Required;
        let (incoming, addr) = listen::tls(self.listen, "--listen", credentials, required).await?;
        let authority = self.url.rsplit("://").next().unwrap_or_default();
        let address = format!("https://{}", reached_at(addr, self.advertise, authority).await);
        let node = Node::build(args, id, data_dir, address).await?;
        certified.reload_on_hangup();
        let ways = Ways { incoming, connect };
        run(node, ways, place, self.url, signals, global).await
    }
}

/// The node that a certificate is of.
fn node_of(role: &Role, dir: &Path, told: Option<&NodeId>) -> Result<NodeId, CliError> {
    let dir = dir.display();
    match (role, told) {
        (Role::Node(id), Some(told)) if id != told => Err(CliError::usage(format!(
            "the certificate in {dir} is of node {id}, and --node says {told}: leave --node out, or join anew with a token"
        ))),
        (Role::Node(id), _) => Ok(id.clone()),
        (other, _) => Err(CliError::Certificate {
            message: format!(
                "the certificate in {dir} is of {other}, and a node needs its own: `wasmatrix join` gets one"
            ),
        }),
    }
}

/// `HOST:PORT` at which the control plane at `control_plane` reaches an agent that listens at `addr`.
async fn reached_at(addr: SocketAddr, advertise: Option<&str>, control_plane: &str) -> String {
    if let Some(advertise) = advertise {
        return advertise.to_owned();
    }
    if !addr.ip().is_unspecified() {
        return addr.to_string();
    }
    let own = listen::own_address(Some(control_plane)).await.unwrap_or_else(|| addr.ip());
    SocketAddr::new(own, addr.port()).to_string()
}

/// By which ways a node is reached, and reaches its control plane.
struct Ways {
    incoming: Incoming,
    connect: Connect,
}

/// Serves and attends until a signal comes; then drains, and gives the exit code.
async fn run(
    node: Node,
    ways: Ways,
    place: &PlaceArgs,
    url: &str,
    signals: &mut Signals,
    global: &Global,
) -> Result<u8, CliError> {
    let host = |error: &(dyn std::error::Error + 'static)| CliError::Host { message: chain(error) };
    let grace = place.grace;
    let told = node.draining.clone();
    let (agent, id) = (node.agent.clone(), node.id.clone());
    let serving = wasmatrix_agent::server::serve(
        ways.incoming,
        agent.clone(),
        async move { told.cancelled().await },
        grace,
    );
    let mut serving = tokio::spawn(serving);
    let attendance = Attendance::begin(agent, ways.connect).map_err(|error| host(&error))?;
    let greeting = &node.greeting;
    tell(
        global,
        &format!(
            "wasmatrix {} node {id} looks for its control plane at {url}\n{greeting}Ctrl-C drains and ends it.\n",
            env!("CARGO_PKG_VERSION")
        ),
    );
    let quiet = global.quiet;
    let mut standing = attendance.standing();
    let saying = tokio::spawn(async move {
        if standing.wait_for(|now| matches!(now, Standing::Attending { .. })).await.is_ok() && !quiet {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "node {id} is known to its control plane");
        }
    });
    let signal = tokio::select! {
        signal = signals.next() => signal,
        ended = &mut serving => {
            let reason = match ended {
                Ok(Ok(())) => "it ended for no reason that it knows of".to_owned(),
                Ok(Err(error)) => chain(&error),
                Err(error) => chain(&error),
            };
            return Err(CliError::Host { message: format!("the agent's service ended: {reason}") });
        }
    };
    tracing::info!(?signal, ?grace, "draining; a second signal ends it at once");
    let code = node.drain(grace, signals).await;
    // The control plane hears of what was stopped before it hears that the node is gone.
    attendance.end().await;
    saying.abort();
    serving.abort();
    Ok(code)
}
