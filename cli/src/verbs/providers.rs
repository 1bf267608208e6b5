//! `provider` and `version`.

use serde::Serialize;
use wasmatrix_model::ProviderStatus;

use crate::{
    args::{Global, ProviderVerb},
    client::Client,
    error::CliError,
    output::{Document, Printer, nodes::ProviderOnNode},
};

/// Shows, starts and stops providers.
pub(crate) async fn provider(
    verb: &ProviderVerb,
    global: &Global,
    out: &mut Printer,
) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    let changed = |provider: ProviderStatus| {
        out.say(&format!("provider {} is {}", provider.capability, provider.phase.as_str()));
    };
    match verb {
        ProviderVerb::Start { capability, node } => {
            changed(client.start_provider(*capability, node.as_ref()).await?);
        }
        ProviderVerb::Stop { capability, drain, node } => {
            changed(client.stop_provider(*capability, *drain, node.as_ref()).await?);
        }
        ProviderVerb::List => {
            let mut providers = Vec::new();
            for node in client.nodes().await? {
                let on_node = |provider| ProviderOnNode { node: node.id.to_string(), provider };
                providers.extend(node.providers.into_iter().map(on_node));
            }
            out.list(&providers)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    /// A version for each node; `None` if nobody answers.
    server: Option<Vec<ServerVersion>>,
}

#[derive(Serialize)]
struct ServerVersion {
    node: String,
    version: String,
}

impl Document for Versions {
    const KIND: &'static str = "Version";

    fn name(&self) -> String {
        self.client.to_owned()
    }
}

/// Says which version this is, and the server's if it answers.
pub(crate) async fn version(global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let server = match Client::connect(global).await {
        Ok(client) => Some(client.nodes().await?),
        Err(CliError::Unreachable { .. }) => None,
        Err(error) => return Err(error),
    };
    let server = server.map(|nodes| {
        let version = |node: wasmatrix_model::NodeStatus| ServerVersion {
            node: node.id.to_string(),
            version: node.version,
        };
        nodes.into_iter().map(version).collect()
    });
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), server };
    out.one(&versions, |versions, _| {
        let server = versions.server.as_ref().map_or_else(
            || format!("server: none answers at {}", global.addr),
            |nodes| {
                let nodes = nodes.iter().map(|node| format!("server: {} (node {})", node.version, node.node));
                nodes.collect::<Vec<_>>().join("\n")
            },
        );
        format!("client: {}\n{server}", versions.client)
    })?;
    Ok(())
}
