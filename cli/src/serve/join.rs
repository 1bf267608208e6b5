//! `join`: gets a certificate with a token, once, and runs the node that it is of.

use std::{net::SocketAddr, path::Path, sync::Arc};

use wasmatrix_control_plane::ControlPlane;
use wasmatrix_identity::{Dialer, Token};
use wasmatrix_model::{Clock, NodeId, SystemClock};
use wasmatrix_wire::{
    protocol::stamped,
    v1::{CreateJoinTokenRequest, control_plane_client::ControlPlaneClient},
};

use super::{
    agent::Member,
    certified::Certified,
    control::Doors,
    enroll::{ask, keep},
    listen, place, renewal, tell,
};
use crate::{
    args::{Global, Join},
    artifact, certs,
    error::CliError,
    run::Signals,
};

/// The port at which nodes listen, unless told otherwise.
const PORT: u16 = 7119;
/// Longest file that holds a token, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Runs a node until a signal comes, and gives the exit code.
///
/// # Errors
/// It has no certificate and gets none, or could not begin.
pub(crate) async fn join(args: Join, global: &Global) -> Result<u8, CliError> {
    let mut signals = Signals::listen()?;
    let data_dir = place::data_dir(&args.place)?;
    let dir = global.certs.clone().unwrap_or_else(|| data_dir.join(certs::DIR).join(certs::NODE));
    if let Some(token) = token(&args)? {
        let id = place::node_id(&data_dir, args.node.node.as_ref())?;
        enroll(&args.control_plane, &token, &id, &dir).await?;
        tell(global, &format!("node {id} has a certificate, in {}\n", dir.display()));
    } else if !dir.join(wasmatrix_identity::credentials::CERT_FILE).exists() {
        return Err(CliError::usage(format!(
            "there is no certificate in {}, so a token is needed: `wasmatrix token create` makes one on the control plane's \
             machine; give it here with --token",
            dir.display()
        )));
    }
    if args.enroll_only {
        return Ok(crate::error::Exit::Ok as u8);
    }
    let certified = Certified::open(&dir)?;
    let listen = match args.listen {
        Some(listen) => listen,
        None => SocketAddr::new(own_address(&args.control_plane).await?, PORT),
    };
    let url = format!("https://{}", args.control_plane);
    renewal::keep_renewed_or_say(&certified.credentials, &url);
    let member = Member { url: &url, listen, advertise: args.advertise.as_deref() };
    member.run(certified, &args.node, &args.place, &data_dir, &mut signals, global).await
}

async fn own_address(control_plane: &str) -> Result<std::net::IpAddr, CliError> {
    listen::own_address(Some(control_plane)).await.ok_or_else(|| CliError::Host {
        message: format!(
            "no address of this machine leads to {control_plane}: see whether it is right, and say where to listen with \
             --listen"
        ),
    })
}

fn token(args: &Join) -> Result<Option<Token>, CliError> {
    let text = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => artifact::read_text(file, TOKEN_FILE_BYTES_MAX)?,
        (None, None) => return Ok(None),
    };
    text.parse().map(Some).map_err(|error: wasmatrix_identity::Malformed| CliError::usage(error.to_string()))
}

/// Gets a node's first certificate and writes it, with its key, which never left this machine.
async fn enroll(control_plane: &str, token: &Token, id: &NodeId, dir: &Path) -> Result<(), CliError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let url = format!("https://{control_plane}");
    // Whom to believe is in the token: nothing else is known here of the control plane.
    let dialer = Dialer::pinned(token.authority(), Arc::clone(&clock));
    let bundle = ask(&url, &dialer, token.expose(), id).await?;
    if !bundle.trusts_only(token.authority()) {
        return Err(CliError::Certificate {
            message: format!("{url} sent another authority than the token names, and is not believed"),
        });
    }
    keep(&bundle, &clock, dir)
}

/// What to type on another machine, with a token that was made for it; empty where none can join.
pub(super) async fn invitation(doors: &Doors, plane: &ControlPlane) -> String {
    let Some(door) = &doors.cluster else { return String::new() };
    let mut client = ControlPlaneClient::with_interceptor(plane.in_process(), stamped);
    match client.create_join_token(CreateJoinTokenRequest::default()).await {
        Ok(made) => format!(
            "On another machine, within 15 minutes: wasmatrix join {} --token {}\n",
            door.authority,
            made.into_inner().token
        ),
        Err(status) => {
            tracing::warn!(reason = status.message(), "no join token could be made");
            "Other machines join with a token from `wasmatrix token create`\n".to_owned()
        }
    }
}
