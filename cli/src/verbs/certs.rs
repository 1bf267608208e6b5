//! `certs`: makes a cluster's authority and the certificates it signs, shows what they say, and takes them back.

mod revoke;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use wasmatrix_identity::{Authority, Credentials, Order, Overwrite, Role, authority, credentials::Revoked};
use wasmatrix_model::{Clock, SystemClock, Timestamp};

use crate::{
    args::{CertsInit, CertsIssue, CertsVerb},
    certs,
    error::CliError,
    output::{Column, Document, Printer, Row, human},
};

/// Makes and shows certificates.
pub(crate) fn certs(verb: &CertsVerb, out: &mut Printer) -> Result<(), CliError> {
    match verb {
        CertsVerb::Init(args) => init(args, out),
        CertsVerb::Issue(args) => issue(args, out),
        CertsVerb::Show { dir, issued: true } => revoke::issued(&certs::dir(dir.as_deref())?, out),
        CertsVerb::Show { dir, issued: false } => show(dir.as_deref(), out),
        CertsVerb::Revoke(args) => revoke::revoke(args, out),
    }
}

fn init(args: &CertsInit, out: &mut Printer) -> Result<(), CliError> {
    let dir = certs::dir(args.dir.as_deref())?;
    let (authority, made) = certs::authority(&dir)?;
    let at = dir.join(certs::AUTHORITY);
    if made {
        out.say(&format!(
            "made an authority in {}: keep its key to this machine, and in a backup",
            at.display()
        ));
    } else {
        out.say(&format!("the authority in {} is there and stays", at.display()));
    }
    let orders =
        [(certs::CONTROL_PLANE, certs::control_plane(&args.hosts)), (certs::ADMIN, Order::new(Role::Admin))];
    for (name, order) in orders {
        let to = dir.join(name);
        if to.join(wasmatrix_identity::credentials::CERT_FILE).exists() {
            out.say(&format!("{} is there and stays; `wasmatrix certs issue` makes another", to.display()));
        } else {
            certs::issue(&authority, &order, &to, Overwrite::Refuse)?;
        }
    }
    show(Some(&dir), out)
}

fn issue(args: &CertsIssue, out: &mut Printer) -> Result<(), CliError> {
    let dir = certs::dir(args.dir.as_deref())?;
    let at = dir.join(certs::AUTHORITY);
    let authority = Authority::open(&at, SystemClock.now()).map_err(certs::refused)?;
    let mut order = match &args.role {
        Role::ControlPlane => certs::control_plane(&args.hosts),
        role => Order::new(role.clone()).at(args.hosts.iter().cloned()),
    };
    if let Some(validity) = args.valid_for {
        order = order.valid_for(validity);
    }
    if let Some(name) = &args.name {
        order = order.named(name);
    }
    let to = args.out.clone().unwrap_or_else(|| dir.join(directory_of(&args.role)));
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    certs::issue(&authority, &order, &to, overwrite)?;
    show(Some(&to), out)
}

/// What the directory of a role's certificate is called by default.
fn directory_of(role: &Role) -> PathBuf {
    match role {
        Role::Admin => certs::ADMIN.into(),
        Role::Operator => "operator".into(),
        Role::Viewer => "viewer".into(),
        Role::ControlPlane => certs::CONTROL_PLANE.into(),
        Role::Node(id) => format!("node-{id}").into(),
    }
}

/// A directory of certificates, and what they say.
#[derive(Debug, Serialize)]
struct Shown {
    dir: PathBuf,
    /// Of whom; `None`: that can't be told.
    role: Option<String>,
    name: Option<String>,
    expires_at: Option<Timestamp>,
    fingerprint: Option<String>,
    /// Why it can't be used, and what to do. `None`: it can.
    problem: Option<String>,
}

impl Document for Shown {
    const KIND: &'static str = "Certificate";

    fn name(&self) -> String {
        self.dir.display().to_string()
    }
}

impl Row for Shown {
    const COLUMNS: &'static [Column] = &[
        Column::new("DIRECTORY"),
        Column::new("ROLE"),
        Column::new("EXPIRES"),
        Column::new("PROBLEM"),
        Column::wide("NAME"),
        Column::wide("FINGERPRINT"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let expires = match self.expires_at {
            None => "-".to_owned(),
            Some(at) if at < now => format!("{} ago", human::age(at, now)),
            Some(at) => format!("in {}", human::until(at, now)),
        };
        vec![
            self.name(),
            or_dash(&self.role),
            expires,
            or_dash(&self.problem),
            or_dash(&self.name),
            or_dash(&self.fingerprint),
        ]
    }
}

fn show(dir: Option<&Path>, out: &mut Printer) -> Result<(), CliError> {
    let dir = certs::dir(dir)?;
    let mut shown: Vec<Shown> = Vec::new();
    shown.extend(look(&dir));
    if shown.is_empty() {
        let entries = std::fs::read_dir(&dir).map_err(|error| CliError::file(&dir, &error))?;
        let mut dirs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        dirs.sort();
        shown.extend(dirs.iter().filter_map(|dir| look(dir)));
    }
    tell_revoked(&dir, &mut shown);
    if shown.is_empty() {
        out.say(&format!(
            "there are no certificates in {}; make some with `wasmatrix certs init`",
            dir.display()
        ));
    }
    out.list(&shown)?;
    Ok(())
}

/// Says of those that were taken back that they were, as far as that can be seen from here: in a directory of several,
/// or beside the control plane's.
fn tell_revoked(dir: &Path, shown: &mut [Shown]) {
    let beside = dir.parent().map(|parent| parent.join(certs::CONTROL_PLANE));
    let lists = [Some(dir.join(certs::CONTROL_PLANE)), beside];
    for list in lists.into_iter().flatten().filter(|list| list.is_dir()) {
        let Ok(revoked) = Revoked::in_dir(&list) else { continue };
        for one in shown.iter_mut().filter(|one| one.problem.is_none()) {
            let fingerprint = one.fingerprint.as_ref().and_then(|text| text.parse().ok());
            if fingerprint.is_some_and(|fingerprint| revoked.contains(fingerprint)) {
                one.problem = Some("it was revoked: the control plane refuses it".to_owned());
            }
        }
    }
}

/// What a directory holds; `None`: no certificates.
fn look(dir: &Path) -> Option<Shown> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let nothing =
        Shown { dir: dir.into(), role: None, name: None, expires_at: None, fingerprint: None, problem: None };
    if dir.join(authority::CA_KEY_FILE).exists() {
        let role = Some("authority".to_owned());
        return Some(match Authority::open(dir, clock.now()) {
            Ok(authority) => {
                let fingerprint = Some(authority.fingerprint().to_string());
                Shown { role, fingerprint, expires_at: Some(authority.not_after()), ..nothing }
            }
            Err(error) => Shown { role, problem: Some(crate::error::chain(&error)), ..nothing },
        });
    }
    if !dir.join(wasmatrix_identity::credentials::CERT_FILE).exists() {
        return None;
    }
    Some(match Credentials::load(dir, &clock) {
        Ok(credentials) => {
            let identity = credentials.identity();
            Shown {
                role: Some(identity.role.to_string()),
                name: Some(identity.name.clone()),
                expires_at: Some(identity.not_after),
                fingerprint: Some(identity.fingerprint.to_string()),
                ..nothing
            }
        }
        Err(error) => Shown { problem: Some(crate::error::chain(&error)), ..nothing },
    })
}
