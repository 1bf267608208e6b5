//! The board by which nodes are picked, as the parts of the control plane share it: one lock, held for moments and taken
//! within any other, and places that count until they are dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmatrix_model::{InstanceSpec, NodeId};

use crate::placement::{Request, Unplaceable, board::Board};

/// See the module's head. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placing(Arc<Mutex<Board>>);

/// A place at a node. An instance counts there until this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    placing: Placing,
    node: NodeId,
    spec: InstanceSpec,
}

impl Placing {
    /// The board. Nothing else may be locked while it is.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Picks the node for a request and counts the instance there. One at a time, so that each sees what the others took.
    /// `members` says how many of the request's group a node lists.
    ///
    /// # Errors
    /// No node fits: why each does not.
    pub(crate) fn place(
        &self,
        request: &Request<'_>,
        members: impl Fn(&NodeId) -> u32,
    ) -> Result<Reserved, Unplaceable> {
        let mut board = self.lock();
        let node = board.place(request, members)?;
        board.reserve(&node, request.spec);
        drop(board);
        Ok(Reserved { placing: self.clone(), node, spec: request.spec.clone() })
    }
}

impl Reserved {
    pub(crate) const fn node(&self) -> &NodeId {
        &self.node
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.placing.lock().release(&self.node, &self.spec);
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;
    use wasmatrix_model::{
        Capacity, Digest, ExecutorKind, ExecutorStatus, Labels, NodePhase, Registration, RunId, Timestamp,
    };
    use wasmatrix_wire::PROTOCOL;

    use super::*;
    use crate::nodes::{Link, Nodes};

    fn registration(id: &NodeId) -> Registration {
        let executor = |kind| ExecutorStatus { kind, unavailable: None };
        Registration {
            id: id.clone(),
            run: RunId::generate(),
            address: "http://127.0.0.1:1".to_owned(),
            version: String::new(),
            protocol: PROTOCOL,
            started_at: Timestamp::UNIX_EPOCH,
            labels: Labels::default(),
            executors: ExecutorKind::ALL.map(executor).to_vec(),
            providers: Vec::new(),
            capacity: Capacity { instances_max: 1, memory_bytes_max: None, memory_bytes_total: 0 },
            cordoned: false,
        }
    }

    #[tokio::test]
    async fn whatever_is_changed_on_a_node_placement_knows_at_once() {
        let placing = Placing::default();
        let nodes = Nodes::new(10, placing.clone());
        let spec = InstanceSpec::new("web".parse().unwrap(), Digest::of(b"web"));
        let place = || placing.place(&Request { spec: &spec, avoid: &[] }, |_| 0);
        let refusal = || place().unwrap_err().to_string();
        assert!(refusal().contains("there is none yet"));

        let node = nodes.get_or_add(&"a".parse().unwrap()).unwrap();
        assert!(refusal().contains("a is lost"));
        {
            let mut state = node.lock();
            state.phase = NodePhase::Ready;
            state.registration = Some(Arc::new(registration(&node.id)));
        }
        assert!(refusal().contains("there is no connection to its agent"));
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let link = Arc::new(Link::new(RunId::generate(), String::new(), channel));
        node.lock().link = Some(Arc::clone(&link));
        assert!(refusal().contains("its agent has not answered yet"));
        node.set_problem(&link, None);

        let reserved = place().unwrap();
        assert_eq!(reserved.node(), &node.id);
        assert!(refusal().contains("a is full"), "it has a place for one, and that is taken");
        drop(reserved);
        assert!(place().is_ok());

        node.lock().cordoned = true;
        assert!(refusal().contains("a is cordoned"));
        {
            let mut state = node.lock();
            (state.cordoned, state.forgotten) = (false, true);
            nodes.remove(&node);
        }
        assert!(refusal().contains("there is none yet"));
    }
}
