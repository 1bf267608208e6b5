//! Join tokens: how a machine that has nothing gets its first certificate.
//!
//! ```text
//! wmx1.ID.SECRET.AUTHORITY
//!      │   │      └ SHA-256 of the authority's certificate, 64 hexadecimal digits: whom the joiner may believe
//!      │   └ 32 hexadecimal digits (128 random bits): what the control plane may believe
//!      └ 12 hexadecimal digits: what the token is called in lists and logs
//! ```

use std::{fmt, str::FromStr};

use wasmatrix_model::NodeId;
use zeroize::Zeroizing;

mod table;

pub use table::{CreateError, RedeemError, Redeemed, TokenInfo, TokenOrder, Tokens};

use crate::certificate::Fingerprint;

const VERSION: &str = "wmx1";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 16;
/// Longest text that is looked at, in bytes, blanks around it included.
const TEXT_BYTES_MAX: usize = 256;

/// What a token is called. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; ID_BYTES]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        unhex(text).map(Self).ok_or(Malformed)
    }
}

/// A join token. Its secret is wiped from memory when it is dropped, and not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    authority: Fingerprint,
}

impl Token {
    fn generate(authority: Fingerprint) -> Self {
        Self { id: TokenId(rand::random()), secret: Zeroizing::new(rand::random()), authority }
    }

    /// What it is called.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Whom its holder may believe: to be given to [`crate::Dialer::pinned`].
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// The whole text, secret included, for who is to join.
    pub fn expose(&self) -> String {
        let secret = self.secret.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        format!("{VERSION}.{}.{secret}.{}", self.id, self.authority.hex())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = Malformed;

    /// Reads what [`Token::expose`] writes, with blanks around it as pasting leaves them.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Malformed);
        }
        let mut parts = text.trim().split('.');
        let mut part = || parts.next().ok_or(Malformed);
        let (version, id, secret, authority) = (part()?, part()?, part()?, part()?);
        if version != VERSION || parts.next().is_some() {
            return Err(Malformed);
        }
        Ok(Self {
            id: id.parse()?,
            secret: Zeroizing::new(unhex(secret).ok_or(Malformed)?),
            authority: unhex::<32>(authority)
                .and_then(|_| format!("sha256:{authority}").parse().ok())
                .ok_or(Malformed)?,
        })
    }
}

/// Text that is no token. It is not shown, since it may be almost one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is no join token: copy the whole text that `wasmatrix token create` printed, which begins with {VERSION}."
)]
pub struct Malformed;

/// Lower-case only: one token, one text.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// For whom a token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum For {
    /// Whatever node shows it; the name is the joiner's choice, so whoever redeems it first refuses a name that a node
    /// has already, or the token would make one node into another.
    AnyNode,
    /// The node of that name only.
    Node(NodeId),
}
