//! What an instance may do, and whether a given call is covered.
//!
//! A grant is written `CAPABILITY:ACTION[:SCOPE]`:
//!
//! ```text
//! kv:read                    every bucket of the instance's own
//! kv:read:settings           the bucket `settings` of its own
//! kv:read:settings/ui/*      keys of that bucket that begin with `ui/`
//! kv:read:settings/ui/theme  one key
//! kv:write:@team/inbox/*     the bucket `team` that is shared by all who are granted it by name
//! ```
//!
//! Nothing is allowed that no grant covers. A shared bucket is covered only by a grant that names it: the bare
//! `kv:read` ends at the instance's own walls. A call that touches several keys needs all of them covered, and a
//! listing needs its whole bucket.

use std::{collections::BTreeSet, fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::failure::Invalid;

/// Longest bucket name, in bytes.
pub const BUCKET_BYTES_MAX: usize = 64;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most grants that one instance holds.
pub const GRANTS_MAX: usize = 256;

/// A kind of thing that can be granted, and the kind of provider that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Key-value storage.
    Kv,
}

impl Capability {
    /// Every capability there is.
    pub const ALL: [Self; 1] = [Self::Kv];

    /// The word in front of a grant.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Capability {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|capability| capability.as_str() == text)
            .ok_or_else(|| Invalid::new("capability", format!("`{text}` is no capability; there is: kv")))
    }
}

/// What can be done with key-value storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KvAction {
    /// See values and keys.
    Read,
    /// Make and change values.
    Write,
    /// Remove values.
    Delete,
}

impl KvAction {
    /// Every action there is.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Delete];

    /// The word in a grant.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// A bucket's name: letters, digits, `.`, `_` and `-`, 1 to 64 bytes. One that begins with `@` is shared between
/// the instances that are granted it by name; any other belongs to one instance.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(Box<str>);

impl BucketName {
    /// The name as text, with the `@` of a shared one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is shared between instances.
    pub fn is_shared(&self) -> bool {
        self.0.starts_with('@')
    }
}

impl FromStr for BucketName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('@').unwrap_or(text);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if bare.is_empty() || text.len() > BUCKET_BYTES_MAX || !bare.bytes().all(legal) {
            let shown: String = text.chars().take(80).collect();
            return Err(Invalid::new(
                "bucket",
                format!(
                    "`{shown}` is no bucket: use 1 to 64 letters, digits, `.`, `_`, `-`, with `@` in front of a shared one"
                ),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A key in a bucket: 1 to 1024 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(Invalid::new(
                "key",
                format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one {}", text.len()),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The keys that a grant covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Keys {
    All,
    Prefix(Box<str>),
    One(Key),
}

/// Permission for one action on one scope. Made by parsing; see the module's head for how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    action: KvAction,
    /// `None`: every bucket of the instance's own.
    bucket: Option<BucketName>,
    keys: Keys,
}

impl Grant {
    /// The capability that it is for.
    pub const fn capability(&self) -> Capability {
        Capability::Kv
    }

    fn covers_bucket(&self, bucket: &BucketName) -> bool {
        match &self.bucket {
            Some(own) => own == bucket,
            None => !bucket.is_shared(),
        }
    }

    fn covers_key(&self, key: &Key) -> bool {
        match &self.keys {
            Keys::All => true,
            Keys::Prefix(prefix) => key.as_str().starts_with(&**prefix),
            Keys::One(one) => one == key,
        }
    }
}

impl FromStr for Grant {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let objection = |problem: String| Invalid::new("grant", problem);
        let shown: String = text.chars().take(120).collect();
        let mut parts = text.splitn(3, ':');
        let capability = parts.next().unwrap_or_default();
        if !Capability::ALL.iter().any(|known| known.as_str() == capability) {
            return Err(objection(format!("`{shown}` names no capability that there is; there is: kv")));
        }
        let word = parts.next().unwrap_or_default();
        let action = KvAction::ALL.into_iter().find(|action| action.as_str() == word).ok_or_else(|| {
            objection(format!("`{shown}` names no action of kv: write kv:read, kv:write or kv:delete"))
        })?;
        let Some(scope) = parts.next() else { return Ok(Self { action, bucket: None, keys: Keys::All }) };
        let (bucket, keys) = match scope.split_once('/') {
            None => (scope, Keys::All),
            Some((bucket, "*")) => (bucket, Keys::All),
            Some((bucket, pattern)) => match pattern.strip_suffix('*') {
                Some(prefix) if prefix.len() <= KEY_BYTES_MAX => (bucket, Keys::Prefix(prefix.into())),
                Some(_) => return Err(objection(format!("the prefix has more than {KEY_BYTES_MAX} bytes"))),
                None => (bucket, Keys::One(pattern.parse().map_err(|e: Invalid| objection(e.problem))?)),
            },
        };
        let bucket = bucket.parse().map_err(|invalid: Invalid| objection(invalid.problem))?;
        Ok(Self { action, bucket: Some(bucket), keys })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.capability(), self.action.as_str())?;
        let Some(bucket) = &self.bucket else { return Ok(()) };
        match &self.keys {
            Keys::All => write!(f, ":{bucket}"),
            Keys::Prefix(prefix) => write!(f, ":{bucket}/{prefix}*"),
            Keys::One(key) => write!(f, ":{bucket}/{key}"),
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> String {
        grant.to_string()
    }
}

/// The keys that a call touches.
#[derive(Clone, Copy, Debug)]
pub enum KeySet<'a> {
    /// The whole bucket: only a grant without a key pattern covers it.
    All,
    /// One key.
    One(&'a Key),
    /// Each of these.
    Many(&'a [Key]),
    /// The keys of these.
    Entries(&'a [(Key, Bytes)]),
}

/// What a call needs: each of the `actions` on each of the `keys` of the bucket. Borrowed from the call, so that a
/// check allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Permission<'a> {
    /// All of these.
    pub actions: &'static [KvAction],
    /// In this bucket.
    pub bucket: &'a BucketName,
    /// On these keys.
    pub keys: KeySet<'a>,
}

impl Permission<'_> {
    /// The capability that it is about.
    pub const fn capability(&self) -> Capability {
        Capability::Kv
    }
}

/// The grants that an instance holds: a set, in the order of their text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeSet<Grant>);

/// The first thing that a call needs and no grant covers, written as the grant that would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no grant covers {missing}")]
pub struct Uncovered {
    /// The narrowest grant that would cover it, e.g. `kv:write:settings/ui/theme`.
    pub missing: String,
}

impl Grants {
    /// Adds a grant. `false`: it was held already.
    ///
    /// # Errors
    /// [`GRANTS_MAX`] are held already.
    pub fn assign(&mut self, grant: Grant) -> Result<bool, Invalid> {
        if !self.0.contains(&grant) && self.0.len() >= GRANTS_MAX {
            return Err(Invalid::new("grants", format!("an instance holds at most {GRANTS_MAX} grants")));
        }
        Ok(self.0.insert(grant))
    }

    /// Takes exactly this grant away; a wider or narrower one stays. `false`: it was not held.
    pub fn revoke(&mut self, grant: &Grant) -> bool {
        self.0.remove(grant)
    }

    /// Whether exactly this grant is held.
    pub fn holds(&self, grant: &Grant) -> bool {
        self.0.contains(grant)
    }

    /// The grants, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Grant> {
        self.0.iter()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decides: is all that `needed` asks for covered? The one place where that is decided.
    ///
    /// # Errors
    /// The first action and key that are not covered.
    pub fn permit(&self, needed: &Permission<'_>) -> Result<(), Uncovered> {
        for action in needed.actions {
            let relevant = || {
                self.0.iter().filter(|grant| grant.action == *action && grant.covers_bucket(needed.bucket))
            };
            let whole = relevant().any(|grant| grant.keys == Keys::All);
            if whole {
                continue;
            }
            let uncovered = |key: &Key| !relevant().any(|grant| grant.covers_key(key));
            let missing: Option<&Key> = match needed.keys {
                KeySet::All => return Err(Uncovered::new(*action, needed.bucket, None)),
                KeySet::One(key) => Some(key).filter(|key| uncovered(key)),
                KeySet::Many(keys) => keys.iter().find(|key| uncovered(key)),
                KeySet::Entries(entries) => entries.iter().map(|(key, _)| key).find(|key| uncovered(key)),
            };
            if let Some(key) = missing {
                return Err(Uncovered::new(*action, needed.bucket, Some(key)));
            }
        }
        Ok(())
    }
}

impl Uncovered {
    fn new(action: KvAction, bucket: &BucketName, key: Option<&Key>) -> Self {
        let scope = key.map(|key| format!("/{key}")).unwrap_or_default();
        Self { missing: format!("kv:{}:{bucket}{scope}", action.as_str()) }
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Grants {
    type Item = &'a Grant;
    type IntoIter = std::collections::btree_set::Iter<'a, Grant>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allowed(held: &[&str], action: &'static [KvAction], bucket: &str, key: Option<&str>) -> bool {
        let bucket = bucket.parse().unwrap();
        let key: Option<Key> = key.map(|key| key.parse().unwrap());
        let keys = key.as_ref().map_or(KeySet::All, KeySet::One);
        grants(held).permit(&Permission { actions: action, bucket: &bucket, keys }).is_ok()
    }

    const READ: &[KvAction] = &[KvAction::Read];
    const BOTH: &[KvAction] = &[KvAction::Read, KvAction::Write];

    #[test]
    fn nothing_is_allowed_without_a_grant() {
        assert!(!allowed(&[], READ, "a", Some("k")));
        assert!(!allowed(&["kv:write", "kv:delete"], READ, "a", Some("k")));
    }

    #[test]
    fn scopes_narrow() {
        assert!(allowed(&["kv:read"], READ, "a", Some("k")));
        assert!(allowed(&["kv:read:a"], READ, "a", None));
        assert!(!allowed(&["kv:read:a"], READ, "b", Some("k")));
        assert!(allowed(&["kv:read:a/ui/*"], READ, "a", Some("ui/theme")));
        assert!(!allowed(&["kv:read:a/ui/*"], READ, "a", Some("uix")));
        assert!(!allowed(&["kv:read:a/ui/*"], READ, "a", None), "a listing needs the whole bucket");
        assert!(allowed(&["kv:read:a/one"], READ, "a", Some("one")));
        assert!(!allowed(&["kv:read:a/one"], READ, "a", Some("one1")));
    }

    #[test]
    fn a_shared_bucket_needs_its_name() {
        assert!(!allowed(&["kv:read"], READ, "@team", Some("k")));
        assert!(allowed(&["kv:read:@team"], READ, "@team", Some("k")));
        assert!(!allowed(&["kv:read:team"], READ, "@team", Some("k")));
        assert!(!allowed(&["kv:read:@team"], READ, "team", Some("k")));
    }

    #[test]
    fn every_action_must_be_covered() {
        assert!(!allowed(&["kv:write"], BOTH, "a", Some("k")));
        assert!(allowed(&["kv:write", "kv:read:a/k"], BOTH, "a", Some("k")));
    }

    #[test]
    fn a_denial_names_what_is_missing() {
        let (bucket, key) = ("a".parse().unwrap(), "k".parse().unwrap());
        let needed = Permission { actions: BOTH, bucket: &bucket, keys: KeySet::One(&key) };
        let error = grants(&["kv:read"]).permit(&needed).unwrap_err();
        assert_eq!(error.to_string(), "no grant covers kv:write:a/k");
    }

    #[test]
    fn what_is_no_grant_is_refused_with_a_reason() {
        for bad in [
            "",
            "kv",
            "kv:",
            "kv:reed",
            "http:request",
            "kv:read:",
            "kv:read:/x",
            "kv:read:a b",
            "kv:read:a/",
        ] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_reads_back_as_itself(text in "kv:(read|write|delete)(:@?[a-z0-9._-]{1,9}(/[a-z/*:]{1,9})?)?") {
            if let Ok(grant) = text.parse::<Grant>() {
                prop_assert_eq!(grant.to_string().parse::<Grant>(), Ok(grant));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<Grant>();
        }
    }
}
