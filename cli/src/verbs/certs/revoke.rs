//! `certs revoke`: certificates that are taken back before their end; and the list of those that there are.

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;
use wasmatrix_identity::{
    Fingerprint, Issued, Role, authority,
    credentials::{RevokeError, Revoked, revoke as put_on_list},
};
use wasmatrix_model::{Clock as _, SystemClock, Timestamp};

use crate::{
    args::CertsRevoke,
    certs,
    error::{CliError, chain},
    output::{Column, Document, Printer, Row, human},
};

/// Serial numbers have so many digits.
const SERIAL_DIGITS: usize = 32;

/// A certificate that the authority has signed, and whether it is still good.
#[derive(Debug, Serialize)]
pub(super) struct Signed {
    /// Of whom; `None`: that is not known any more.
    role: Option<String>,
    name: Option<String>,
    serial: Option<String>,
    expires_at: Option<Timestamp>,
    fingerprint: String,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It opens what its role may.
    InForce,
    /// It was taken back, just now or before.
    Revoked,
    /// It had been taken back before it was asked for.
    AlreadyRevoked,
}

impl Document for Signed {
    const KIND: &'static str = "SignedCertificate";

    fn name(&self) -> String {
        self.fingerprint.clone()
    }
}

impl Row for Signed {
    const COLUMNS: &'static [Column] = &[
        Column::new("ROLE"),
        Column::new("NAME"),
        Column::new("SERIAL"),
        Column::new("EXPIRES"),
        Column::new("STATE"),
        Column::wide("FINGERPRINT"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let expires = self.expires_at.map(|at| format!("in {}", human::until(at, now)));
        let state = match self.state {
            State::InForce => "in force",
            State::Revoked => "revoked",
            State::AlreadyRevoked => "revoked before",
        };
        vec![
            or_dash(&self.role),
            or_dash(&self.name),
            or_dash(&self.serial),
            or_dash(&expires),
            state.to_owned(),
            self.fingerprint.clone(),
        ]
    }
}

impl Signed {
    fn of(issued: &Issued, state: State) -> Self {
        Self {
            role: Some(issued.role.to_string()),
            name: Some(issued.name.clone()),
            serial: Some(issued.serial.clone()),
            expires_at: Some(issued.not_after),
            fingerprint: issued.fingerprint.to_string(),
            state,
        }
    }
}

/// What the authority has signed and is not over.
pub(super) fn issued(dir: &Path, out: &mut Printer) -> Result<(), CliError> {
    let all = signed(dir)?;
    let revoked = Revoked::in_dir(&dir.join(certs::CONTROL_PLANE)).map_err(failed)?;
    let state = |issued: &Issued| match revoked.contains(issued.fingerprint) {
        true => State::Revoked,
        false => State::InForce,
    };
    out.list(&all.iter().map(|issued| Signed::of(issued, state(issued))).collect::<Vec<_>>())?;
    Ok(())
}

/// Takes certificates back.
pub(super) fn revoke(args: &CertsRevoke, out: &mut Printer) -> Result<(), CliError> {
    let dir = certs::dir(args.dir.as_deref())?;
    let list = args.list.clone().unwrap_or_else(|| dir.join(certs::CONTROL_PLANE));
    if !list.join(wasmatrix_identity::credentials::CERT_FILE).exists() {
        return Err(CliError::Absent {
            message: format!(
                "there are no credentials in {}: run this on the control plane's machine, or name with --list the \
                 directory of those who are to refuse the certificate",
                list.display()
            ),
        });
    }
    // From here on nobody gets a certificate by showing one that is taken back.
    let at = dir.join(certs::AUTHORITY);
    let _held = match at.is_dir() {
        true => Some(authority::hold(&at).map_err(|error| failed(error.into()))?),
        // Where only the list is, fingerprints can be given.
        false => None,
    };
    let all = signed(&dir)?;
    // All are found before one is taken back.
    let mut meant: Vec<Meant> = Vec::new();
    for which in &args.which {
        for one in find(which, args, &all)? {
            if !meant.contains(&one) {
                meant.push(one);
            }
        }
    }
    let mut rows = Vec::new();
    for one in &meant {
        let new = put_on_list(&list, one.fingerprint(), &one.note()).map_err(failed)?;
        rows.push(one.row(if new { State::Revoked } else { State::AlreadyRevoked }));
    }
    out.list(&rows)?;
    if rows.iter().any(|row| row.state == State::Revoked) {
        out.say(&format!(
            "whoever follows {} refuses them within 5 seconds, on open connections too; SIGHUP makes it at once",
            list.display()
        ));
    }
    Ok(())
}

/// A certificate that is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meant {
    Listed(Issued),
    /// One that the authority did not note: it is from before it kept a list, or of another authority.
    Unlisted(Fingerprint),
}

impl Meant {
    fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Listed(issued) => issued.fingerprint,
            Self::Unlisted(fingerprint) => *fingerprint,
        }
    }

    /// For whoever reads the list.
    fn note(&self) -> String {
        let now = SystemClock.now();
        match self {
            Self::Listed(Issued { role, name, serial, not_after, .. }) => {
                format!("{role}, {name}, serial {serial}, good until {not_after}; revoked at {now:.0}")
            }
            Self::Unlisted(_) => format!("revoked at {now:.0}"),
        }
    }

    fn row(&self, state: State) -> Signed {
        match self {
            Self::Listed(issued) => Signed::of(issued, state),
            Self::Unlisted(fingerprint) => Signed {
                role: None,
                name: None,
                serial: None,
                expires_at: None,
                fingerprint: fingerprint.to_string(),
                state,
            },
        }
    }
}

/// The certificates that a word on the command line means.
fn find(which: &str, args: &CertsRevoke, all: &[Issued]) -> Result<Vec<Meant>, CliError> {
    if let Ok(fingerprint) = which.parse::<Fingerprint>() {
        let listed = all.iter().find(|issued| issued.fingerprint == fingerprint).cloned();
        return Ok(vec![listed.map_or(Meant::Unlisted(fingerprint), Meant::Listed)]);
    }
    if which.len() == SERIAL_DIGITS && which.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let listed = all.iter().find(|issued| issued.serial.eq_ignore_ascii_case(which)).cloned();
        return listed.map(|issued| vec![Meant::Listed(issued)]).ok_or_else(|| CliError::Absent {
            message: format!(
                "no certificate in use has the serial number {which}: `wasmatrix certs show --issued` lists those that \
                 have one; of one that is not listed, give the fingerprint (sha256:…)"
            ),
        });
    }
    let role: Role = which.parse().map_err(|_| {
        CliError::usage(format!(
            "`{which}` names no certificate: give node/NAME, viewer, operator, admin, a serial number or a fingerprint, as \
             `wasmatrix certs show --issued -o wide` shows them"
        ))
    })?;
    of_role(&role, args, all)
}

fn of_role(role: &Role, args: &CertsRevoke, all: &[Issued]) -> Result<Vec<Meant>, CliError> {
    if *role == Role::ControlPlane && args.list.is_none() {
        return Err(CliError::usage(
            "a control plane's certificate is refused by those whom it calls: name their directory with --list, on each \
             node, and give the fingerprint; `wasmatrix certs issue control-plane --force` makes another certificate",
        ));
    }
    let wanted =
        |issued: &&Issued| issued.role == *role && args.name.as_ref().is_none_or(|name| *name == issued.name);
    let found: Vec<&Issued> = all.iter().filter(wanted).collect();
    if found.is_empty() {
        let named = args.name.as_ref().map_or_else(String::new, |name| format!(" named `{name}`"));
        return Err(CliError::Absent {
            message: format!(
                "there is no certificate of {role}{named} in use: `wasmatrix certs show --issued` lists those that there \
                 are"
            ),
        });
    }
    let holders: BTreeSet<&str> = found.iter().map(|issued| issued.name.as_str()).collect();
    if holders.len() > 1 && !args.all {
        let holders: Vec<&str> = holders.into_iter().collect();
        return Err(CliError::usage(format!(
            "there are certificates of {role} with several names, {}: say which with --name, or take all of them back \
             with --all",
            holders.join(", ")
        )));
    }
    Ok(found.into_iter().cloned().map(Meant::Listed).collect())
}

fn signed(dir: &Path) -> Result<Vec<Issued>, CliError> {
    let at = dir.join(certs::AUTHORITY);
    authority::issued(&at, SystemClock.now()).map_err(|error| CliError::Host { message: chain(&error) })
}

fn failed(error: RevokeError) -> CliError {
    CliError::Host { message: chain(&error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(serial: u8, role: &str, name: &str) -> Issued {
        Issued {
            serial: format!("{serial:032x}"),
            fingerprint: format!("sha256:{serial:064x}").parse().unwrap(),
            not_after: Timestamp::MAX,
            role: role.parse().unwrap(),
            name: name.to_owned(),
        }
    }

    fn args(name: Option<&str>, all: bool) -> CertsRevoke {
        let name = name.map(str::to_owned);
        CertsRevoke { which: Vec::new(), name, all, dir: None, list: None }
    }

    #[test]
    fn a_word_means_what_is_in_use_or_is_told_what_there_is() {
        let all = [
            issued(1, "node/b", "node b"),
            issued(2, "node/b", "node b"),
            issued(3, "node/c", "node c"),
            issued(4, "viewer", "eve"),
            issued(5, "viewer", "mallory"),
            issued(6, "operator", "alice"),
        ];
        let serials = |which: &str, args: &CertsRevoke| {
            let found = find(which, args, &all).map_err(|error| (error.exit() as u8, error.to_string()))?;
            Ok(found
                .iter()
                .map(|one| match one {
                    Meant::Listed(issued) => u8::from_str_radix(&issued.serial, 16).unwrap(),
                    Meant::Unlisted(_) => 0,
                })
                .collect::<Vec<_>>())
        };
        let plain = args(None, false);
        assert_eq!(serials("node/b", &plain), Ok(vec![1, 2]), "what was renewed too");
        assert_eq!(serials("operator", &plain), Ok(vec![6]));
        assert_eq!(serials("viewer", &args(Some("eve"), false)), Ok(vec![4]));
        assert_eq!(serials("viewer", &args(None, true)), Ok(vec![4, 5]));
        assert_eq!(serials(&format!("{:032X}", 3), &plain), Ok(vec![3]));
        assert_eq!(serials(&format!("sha256:{:064x}", 3), &plain), Ok(vec![3]));
        assert_eq!(serials(&format!("sha256:{:064x}", 9), &plain), Ok(vec![0]));
        for (which, args, code, part) in [
            ("viewer", args(None, false), 2, "eve, mallory"),
            ("viewer", args(Some("bob"), false), 3, "named `bob`"),
            ("admin", args(None, true), 3, "no certificate of admin"),
            ("node/d", args(None, false), 3, "no certificate of node d"),
            (&format!("{:032x}", 9), args(None, false), 3, "serial number"),
            ("control-plane", args(None, false), 2, "--list"),
            ("king", args(None, false), 2, "`king` names no certificate"),
        ] {
            let (exit, message) = serials(which, &args).unwrap_err();
            assert!(exit == code && message.contains(part), "{which}: {exit} {message}");
        }
    }
}
