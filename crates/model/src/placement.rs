//! Which nodes may run an instance, and what becomes of it when its node is lost.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{InstanceName, NodeId, failure::Invalid};

/// Most labels of one node, and most that one instance asks for.
pub const LABELS_MAX: usize = 64;
/// Longest label key or value, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// What is said of a node, or asked of one: keys with values, e.g. `zone=eu-1`.
///
/// A key has 1 to 63 letters, digits and `. - _ /`; a value has 0 to 63 of the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The labels, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The first of these labels that `other` lacks or has with another value; `None`: it has all of them.
    pub fn first_missing_in<'a>(&'a self, other: &Self) -> Option<(&'a str, &'a str)> {
        self.iter().find(|(key, value)| other.get(key) != Some(*value))
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = Invalid;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, Invalid> {
        let objection = |problem: String| Err(Invalid::new("labels", problem));
        if labels.len() > LABELS_MAX {
            return objection(format!("at most {LABELS_MAX} labels are taken"));
        }
        let legal = |text: &str| {
            text.len() <= LABEL_BYTES_MAX
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte))
        };
        for (key, value) in &labels {
            if key.is_empty() || !legal(key) || !legal(value) {
                let shown: String = format!("{key}={value}").chars().take(80).collect();
                return objection(format!(
                    "`{shown}` is no label: write KEY=VALUE, each of at most {LABEL_BYTES_MAX} letters, digits and . - \
                     _ /"
                ));
            }
        }
        Ok(Self(labels))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// What becomes of an instance whose node is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNodeLoss {
    /// It is unknown until the node returns or somebody removes it.
    #[default]
    Leave,
    /// A successor is started once, on another node. Should the lost node return, its copy is ended.
    RestartElsewhere,
}

impl OnNodeLoss {
    /// Every answer there is.
    pub const ALL: [Self; 2] = [Self::Leave, Self::RestartElsewhere];

    /// The word that users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::RestartElsewhere => "restart-elsewhere",
        }
    }
}

impl fmt::Display for OnNodeLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OnNodeLoss {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|answer| answer.as_str() == text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Invalid::new("on_node_loss", format!("`{shown}` is no answer: write leave or restart-elsewhere"))
        })
    }
}

/// Which nodes may run an instance. The default: any node, spread from nobody, left where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// The only node that will do. `None`: any.
    pub node: Option<NodeId>,
    /// Labels that the node must have.
    pub labels: Labels,
    /// Instances of one group are spread over the nodes, as far as there are nodes.
    pub group: Option<InstanceName>,
    /// What becomes of it when its node is lost.
    pub on_node_loss: OnNodeLoss,
}

impl Placement {
    /// Whether its parts go together.
    ///
    /// # Errors
    /// It is to be restarted elsewhere, and there is no elsewhere.
    pub fn validate(&self) -> Result<(), Invalid> {
        match (&self.node, self.on_node_loss) {
            (Some(node), OnNodeLoss::RestartElsewhere) => {
                let problem = format!(
                    "restart-elsewhere has no elsewhere where `{node}` is the only node that will do: leave one of the \
                     two out, or choose nodes by their labels"
                );
                Err(Invalid::new("on_node_loss", problem))
            }
            (None, OnNodeLoss::RestartElsewhere) | (_, OnNodeLoss::Leave) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_run_on_one_node_alone_can_not_be_restarted_elsewhere() {
        let node: Option<NodeId> = Some("b".parse().unwrap());
        for (node, on_node_loss, legal) in [
            (None, OnNodeLoss::Leave, true),
            (None, OnNodeLoss::RestartElsewhere, true),
            (node.clone(), OnNodeLoss::Leave, true),
            (node, OnNodeLoss::RestartElsewhere, false),
        ] {
            let placement = Placement { node, on_node_loss, ..Placement::default() };
            assert_eq!(placement.validate().is_ok(), legal, "{placement:?}");
        }
    }

    fn labels(text: &str) -> Result<Labels, Invalid> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>().try_into()
    }

    #[test]
    fn labels_are_asked_for_one_by_one() {
        let node = labels("zone=eu,disk=ssd").unwrap();
        assert_eq!(labels("zone=eu").unwrap().first_missing_in(&node), None);
        assert_eq!(labels("disk=hdd,zone=eu").unwrap().first_missing_in(&node), Some(("disk", "hdd")));
        assert_eq!(Labels::default().first_missing_in(&node), None);
        assert_eq!(node.to_string(), "disk=ssd,zone=eu");
    }

    #[test]
    fn what_becomes_of_it_is_one_of_two_words() {
        for answer in OnNodeLoss::ALL {
            assert_eq!(answer.to_string().parse(), Ok(answer));
        }
        assert!("move".parse::<OnNodeLoss>().unwrap_err().problem.contains("restart-elsewhere"));
    }

    #[test]
    fn what_is_no_label_is_refused_by_name() {
        for bad in ["=x", "a b=c", "a=b c", "a=é"] {
            assert!(labels(bad).unwrap_err().problem.contains("is no label"), "{bad}");
        }
        assert!(labels(&format!("{}=x", "k".repeat(64))).is_err());
        assert!(labels("empty=").is_ok());
    }
}
