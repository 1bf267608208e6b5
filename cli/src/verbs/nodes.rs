//! `node` and `token`.

use futures::{StreamExt as _, pin_mut};
use wasmatrix_model::NodeId;

use crate::{
    args::{Drain, Global, NodeVerb, TokenVerb},
    client::{
        Client,
        nodes::{Drained, Outcome},
    },
    error::{CliError, Exit},
    output::{Printer, nodes::describe_node},
    run::{RunExit, Signals},
};

/// Shows nodes, and says which take instances. Gives the exit code.
pub(crate) async fn node(verb: &NodeVerb, global: &Global, out: &mut Printer) -> Result<u8, CliError> {
    let client = Client::connect(global).await?;
    match verb {
        NodeVerb::List => {
            let nodes = client.nodes().await?;
            if nodes.is_empty() {
                out.say("there are no nodes; let one join with `wasmatrix join`");
            }
            out.list(&nodes)?;
        }
        NodeVerb::Get { node } => out.one(&client.node(node).await?, describe_node)?,
        NodeVerb::Cordon { node } => cordon(&client, node, true, out).await?,
        NodeVerb::Uncordon { node } => cordon(&client, node, false, out).await?,
        NodeVerb::Drain(args) => return drain(&client, args, out).await,
        NodeVerb::Rm { node } => {
            client.forget(node).await?;
            out.say(&format!("node {node} is forgotten; should it return, it is known again"));
        }
    }
    Ok(Exit::Ok as u8)
}

async fn cordon(client: &Client, node: &NodeId, cordoned: bool, out: &mut Printer) -> Result<(), CliError> {
    let status = client.cordon(node, cordoned).await?;
    out.say(&if status.cordoned {
        format!("node {node} takes no new instances; what runs there goes on")
    } else {
        format!("node {node} takes instances")
    });
    out.row(&status)?;
    Ok(())
}

/// How a drain went so far.
#[derive(Debug, Default)]
struct Tally {
    stopped: usize,
    moved: usize,
    failed: usize,
    /// Instances still to go, as far as was heard.
    remaining: Option<u32>,
}

impl Tally {
    fn count(&mut self, step: &Drained) {
        match step.outcome {
            Outcome::Stopped => self.stopped += 1,
            Outcome::Moved => self.moved += 1,
            Outcome::Failed => self.failed += 1,
        }
        self.remaining = Some(step.remaining);
    }

    fn sum(&self) -> String {
        let Self { stopped, moved, failed, .. } = self;
        format!("{moved} moved, {stopped} stopped, {failed} failed")
    }
}

async fn drain(client: &Client, args: &Drain, out: &mut Printer) -> Result<u8, CliError> {
    let node = &args.node;
    let mut signals = Signals::listen()?;
    let mut tally = Tally::default();
    let interrupted = |tally: &Tally, out: &Printer| {
        let left = tally.remaining.map_or_else(String::new, |left| format!(", with {left} instances to go"));
        out.say(&format!(
            "interrupted: node {node} stays cordoned{left} ({}); those on their way go on. `wasmatrix node drain {node}` \
             goes on with the rest, `wasmatrix node uncordon {node}` lets it take instances again",
            tally.sum()
        ));
    };
    let steps = tokio::select! {
        steps = client.drain(node, args.grace) => steps?,
        signal = signals.next() => {
            interrupted(&tally, out);
            return Ok(RunExit::Interrupted(signal).code());
        }
    };
    pin_mut!(steps);
    loop {
        let step = tokio::select! {
            step = steps.next() => step,
            signal = signals.next() => {
                interrupted(&tally, out);
                return Ok(RunExit::Interrupted(signal).code());
            }
        };
        let Some(step) = step else { break };
        let step = step?;
        tally.count(&step);
        out.next(&step)?;
    }
    let all = tally.stopped + tally.moved + tally.failed;
    if tally.failed > 0 {
        out.say(&format!("node {node} is cordoned and not empty: {}", tally.sum()));
        return Err(CliError::Several { failed: tally.failed, all, first: Exit::Failed });
    }
    out.say(&format!(
        "node {node} is drained: {}; it stays cordoned until `wasmatrix node uncordon {node}`",
        tally.sum()
    ));
    Ok(Exit::Ok as u8)
}

/// Makes join tokens.
pub(crate) async fn token(verb: &TokenVerb, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let TokenVerb::Create { valid_for, node } = verb;
    let token = Client::connect(global).await?.create_token(*valid_for, node.as_ref()).await?;
    let who = node.as_ref().map_or_else(|| "one machine".to_owned(), |node| format!("node {node}"));
    out.say(&format!("good once, for {who}, until {:.0}", token.expires_at));
    out.one(&token, |token, _| token.token.clone())?;
    Ok(())
}
