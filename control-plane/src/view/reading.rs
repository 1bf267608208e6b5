//! Finding, paging and counting what the nodes told.

use std::{cmp::Ordering, collections::HashMap, fmt, str::FromStr};

use wasmatrix_model::{InstanceId, InstanceName, InstanceStatus, Load, NodeId, RunId, failure::Invalid};

use super::{View, record::Record};

/// What a name or an id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that is listed.
    None,
    /// One instance: the only one, or that of the latest generation.
    One(Box<InstanceStatus>),
    /// Several of one name, none later than the others. They can be told apart by their ids.
    Several(Vec<InstanceStatus>),
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their names, then of their ids.
    pub instances: Vec<InstanceStatus>,
    /// Where the next part begins. `None`: this was the last.
    pub next: Option<PageToken>,
}

/// A place in a listing: behind an instance, whether it is still listed or not. Written `NAME/ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken {
    name: InstanceName,
    id: InstanceId,
}

impl PageToken {
    /// The place behind an instance.
    pub fn after(status: &InstanceStatus) -> Self {
        Self { name: status.spec.name.clone(), id: status.id }
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.id)
    }
}

impl FromStr for PageToken {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let (name, id) = text.split_once('/')?;
            Some(Self { name: name.parse().ok()?, id: id.parse().ok()? })
        };
        let shown: String = text.chars().take(120).collect();
        parse().ok_or_else(|| {
            Invalid::new(
                "page_token",
                format!("`{shown}` was not given by this control plane; list again without it"),
            )
        })
    }
}

/// How many of a group each node has: those that live, or will be started again.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    view: &'a View,
    group: Option<&'a HashMap<u32, u32>>,
}

impl Members<'_> {
    /// How many a node has.
    pub fn on(&self, node: &NodeId) -> u32 {
        let place = self.group.and_then(|group| Some((group, self.view.node_by_id.get(node)?)));
        place.and_then(|(group, place)| group.get(place)).copied().unwrap_or(0)
    }
}

impl View {
    /// What a name stands for, or else an id.
    pub fn find(&self, name_or_id: &str) -> Found {
        let name = name_or_id.parse().ok();
        let found = name.map_or(Found::None, |name: InstanceName| self.find_named(&name));
        if found != Found::None {
            return found;
        }
        let id = name_or_id.parse().ok();
        id.and_then(|id| self.get(id)).map_or(Found::None, |status| Found::One(Box::new(status)))
    }

    fn find_named(&self, name: &InstanceName) -> Found {
        let Some(latest) = self.records_named(name).map(|record| record.generation).max() else {
            return Found::None;
        };
        let records = self.records_named(name).filter(|record| record.generation == latest);
        let mut found: Vec<_> = records.filter_map(|record| self.get(record.id)).collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Found::None,
            (Some(only), true) => Found::One(Box::new(only)),
            (Some(last), false) => {
                found.push(last);
                Found::Several(found)
            }
        }
    }

    /// The instance of that id.
    pub fn get(&self, id: InstanceId) -> Option<InstanceStatus> {
        self.status(*self.by_id.get(&id)?)
    }

    /// Every instance of that name, of whatever generation, on whatever node.
    pub fn holders(&self, name: &InstanceName) -> Vec<InstanceStatus> {
        self.records_named(name).filter_map(|record| self.get(record.id)).collect()
    }

    /// The instance that was started with that idempotency key; of several, the one of the latest generation.
    pub fn with_idempotency_key(&self, key: &str) -> Option<InstanceStatus> {
        let from = self.by_key.from(|place| {
            let record = self.records.get(place);
            record.map_or(Ordering::Less, |record| record.idempotency_key().cmp(&Some(key)))
        });
        let records = from.map_while(|place| {
            self.records.get(place).filter(|record| record.idempotency_key() == Some(key))
        });
        self.get(records.max_by_key(|record| (record.generation, record.id))?.id)
    }

    /// Up to `count` instances, of one node or of all, from the place after `after`. Whatever changes between two pages,
    /// what stays listed is told once.
    pub fn page(&self, after: Option<&PageToken>, count: usize, node: Option<&NodeId>) -> Page {
        let order = match node {
            None => Some(&self.by_name),
            Some(node) => {
                let place = self.node_by_id.get(node);
                place.and_then(|place| self.nodes.get(*place)).map(|node| &node.instances)
            }
        };
        let Some(order) = order else { return Page { instances: Vec::new(), next: None } };
        let passed = |place| match (self.records.get(place), after) {
            (Some(record), Some(after)) if record.key() <= (&after.name, after.id) => Ordering::Less,
            (Some(_), _) => Ordering::Greater,
            (None, _) => Ordering::Less,
        };
        let mut places = order.from(passed);
        let instances: Vec<_> = places.by_ref().take(count).filter_map(|place| self.status(place)).collect();
        let next = places.next().and_then(|_| instances.last()).map(PageToken::after);
        Page { instances, next }
    }

    /// How many instances are listed.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How much of a node is taken by what it lists.
    pub fn load(&self, node: &NodeId) -> Load {
        let place = self.node_by_id.get(node);
        place.and_then(|place| self.nodes.get(*place)).map(|node| node.load).unwrap_or_default()
    }

    /// How many of a group each node has.
    pub fn members(&self, group: &InstanceName) -> Members<'_> {
        Members { view: self, group: self.groups.get(group) }
    }

    /// The run of a node that was last heard of.
    pub fn run(&self, node: &NodeId) -> Option<RunId> {
        self.nodes.get(*self.node_by_id.get(node)?).map(|node| node.run)
    }

    /// Whether a node has told all that there is since its last reset.
    pub fn is_synced(&self, node: &NodeId) -> bool {
        let place = self.node_by_id.get(node);
        place.and_then(|place| self.nodes.get(*place)).is_some_and(|node| node.synced)
    }

    /// The nodes that told anything and were not forgotten.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().map(|node| &node.id)
    }

    pub(super) fn records_named(&self, name: &InstanceName) -> impl Iterator<Item = &Record> {
        let from = self.by_name.from(|place| {
            let record = self.records.get(place);
            record.map_or(Ordering::Less, |record| record.name.cmp(name))
        });
        from.map_while(move |place| self.records.get(place).filter(|record| record.name == *name))
    }
}
