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
