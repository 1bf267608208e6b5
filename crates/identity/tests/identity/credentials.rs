//! Files that are not what they should be: each is refused with a message that names it and says what to do.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use wasmatrix_identity::*;
use wasmatrix_model::Clock;

use crate::cluster::*;

fn refused(cluster: &Cluster, dir: &Path) -> String {
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    chain(&Credentials::load(dir, &clock).unwrap_err())
}

#[test]
fn good_ones_say_who_they_are_and_for_how_long() {
    let cluster = Cluster::new();
    let order = Order::new(Role::Operator).named("ada");
    let current = cluster.live("ada", order).current();
    let identity = current.identity();
    assert_eq!((&identity.role, identity.name.as_str()), (&Role::Operator, "ada"));
    let now = cluster.clock.now();
    assert_eq!((identity.days_left(now), identity.renewal_due(now)), (90, false));
    cluster.clock.turn(61 * DAY);
    assert!(identity.renewal_due(cluster.clock.now()));
    assert_eq!(current.authorities(), [cluster.authority.fingerprint()]);
}

#[test]
fn each_thing_that_can_be_wrong_has_its_own_message() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let fresh = || ours.member("a", Order::new(node("a")));
    let other = ours.member("b", Order::new(node("b")));
    let foreign = theirs.member("a", Order::new(node("a")));
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to).unwrap();
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let table: [(Damage<'_>, &[&str]); 11] = [
        (&|dir| fs::remove_file(dir.join("ca.pem")).unwrap(), &["ca.pem is missing", "wasmatrix join"]),
        (
            &|dir| fs::remove_file(dir.join("cert.pem")).unwrap(),
            &["cert.pem is missing", "wasmatrix certs issue"],
        ),
        (&|dir| fs::remove_file(dir.join("key.pem")).unwrap(), &["key.pem is missing"]),
        (&|dir| fs::write(dir.join("cert.pem"), "hello").unwrap(), &["cert.pem holds no certificate"]),
        (
            &|dir| fs::write(dir.join("ca.pem"), [0xff; 9]).unwrap(),
            &["ca.pem holds no certificate of an authority"],
        ),
        (&|dir| fs::write(dir.join("key.pem"), "hello").unwrap(), &["key.pem holds no private key"]),
        (&|dir| copy(&other.join("key.pem"), &dir.join("key.pem")), &["key.pem is not the key of cert.pem"]),
        (
            &|dir| copy(&foreign.join("ca.pem"), &dir.join("ca.pem")),
            &["not signed by the authority in ca.pem", "wasmatrix join"],
        ),
        (&|dir| copy(&dir.join("cert.pem"), &dir.join("ca.pem")), &["`node a`, which is no authority"]),
        (&|dir| forged(&ours, dir, &[]), &["cert.pem can't be used", "it names no role"]),
        (
            &|dir| fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap(),
            &["may be read by others (mode 644)", "chmod 600"],
        ),
    ];
    for (damage, says) in table {
        let dir = fresh();
        assert!(LiveCredentials::open(&dir, ours.clock.clone()).is_ok());
        damage(&dir);
        let message = refused(&ours, &dir);
        assert!(message.contains(dir.to_str().unwrap()), "names the place: {message}");
        for part in says {
            assert!(message.contains(part), "{part} in: {message}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn time_has_its_own_messages() {
    let cluster = Cluster::new();
    cluster.clock.turn(DAY);
    let dir = cluster.member("a", Order::new(node("a")));
    cluster.clock.turn(-DAY);
    let message = refused(&cluster, &dir);
    assert!(message.contains("set this machine's clock"), "{message}");
    cluster.clock.turn(DAY + 30 * DAY + 1);
    let message = refused(&cluster, &dir);
    assert!(message.contains("of node a, expired at") && message.contains("`wasmatrix join`"), "{message}");
    cluster.clock.turn(10 * 365 * DAY);
    let message = refused(&cluster, &dir);
    assert!(message.contains("the authority in ca.pem is valid from"), "{message}");
}

#[test]
fn two_authorities_are_trusted_while_one_replaces_the_other() {
    let (old, new) = (Cluster::new(), Cluster::new());
    let dir = new.member("a", Order::new(node("a")));
    let both = format!("{}{}", old.authority.certificate_pem(), new.authority.certificate_pem());
    fs::write(dir.join("ca.pem"), both).unwrap();
    let live = LiveCredentials::open(&dir, new.clock.clone()).unwrap();
    assert_eq!(live.current().authorities(), [old.authority.fingerprint(), new.authority.fingerprint()]);
}

#[test]
fn a_renewal_that_is_cut_off_anywhere_leaves_credentials_that_work() {
    let cluster = Cluster::new();
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let dir = cluster.member("a", Order::new(node("a")));
    let old = Credentials::load(&dir, &clock).unwrap().identity().clone();
    let new_dir = cluster.member("new", Order::new(node("a")));
    let new = Credentials::load(&new_dir, &clock).unwrap().identity().clone();

    // After the first step: the new key is there, under its other name.
    fs::copy(new_dir.join("key.pem"), dir.join("key-next.pem")).unwrap();
    assert_eq!(*Credentials::load(&dir, &clock).unwrap().identity(), old);
    // After the second: the certificate is new, and key.pem is still the old one's.
    fs::copy(new_dir.join("cert.pem"), dir.join("cert.pem")).unwrap();
    assert_eq!(*Credentials::load(&dir, &clock).unwrap().identity(), new);
    // The next renewal fails after its first step, and must not have taken the key that is in use.
    let third = cluster.authority.issue(&Order::new(node("a")), cluster.clock.now()).unwrap();
    fs::remove_file(dir.join("ca.pem")).unwrap();
    fs::create_dir(dir.join("ca.pem")).unwrap();
    assert!(third.write(&dir, Overwrite::Replace).is_err(), "no file takes the place of a directory");
    fs::remove_dir(dir.join("ca.pem")).unwrap();
    fs::copy(new_dir.join("ca.pem"), dir.join("ca.pem")).unwrap();
    assert_eq!(*Credentials::load(&dir, &clock).unwrap().identity(), new);

    third.write(&dir, Overwrite::Replace).unwrap();
    let third = third.prove(&clock).unwrap().identity().clone();
    assert_eq!(*Credentials::load(&dir, &clock).unwrap().identity(), third);
    let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["ca.pem", "cert.pem", "key.pem"]);
}

#[test]
fn nothing_that_exists_is_overwritten_unless_told() {
    let cluster = Cluster::new();
    let dir = cluster.member("a", Order::new(node("a")));
    let before = fs::read(dir.join("cert.pem")).unwrap();
    let bundle = cluster.authority.issue(&Order::new(node("a")), cluster.clock.now()).unwrap();
    let error = bundle.write(&dir, Overwrite::Refuse).unwrap_err().to_string();
    assert!(error.contains("exists and is not overwritten"), "{error}");
    assert_eq!(fs::read(dir.join("cert.pem")).unwrap(), before);
    assert!(!dir.join("key-next.pem").exists());
    assert_eq!(fs::metadata(dir.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn nothing_that_is_printed_holds_a_key() {
    let cluster = Cluster::new();
    let bundle = cluster.authority.issue(&Order::new(node("a")), cluster.clock.now()).unwrap();
    let request = KeyAndRequest::generate().unwrap();
    let live = cluster.live("a", Order::new(node("a")));
    let printed = format!("{bundle:?} {request:?} {live:?} {:?} {:?}", live.current(), cluster.authority);
    assert!(!printed.contains("PRIVATE KEY"), "{printed}");
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let cluster = Cluster::new();
    let dir = cluster.dir.path().join("a");
    fs::create_dir(&dir).unwrap();
    let bundle = cluster.authority.issue(&Order::new(node("a")), cluster.clock.now()).unwrap();
    fs::create_dir(dir.join("key-next.pem")).unwrap();
    assert!(bundle.write(&dir, Overwrite::Refuse).is_err());
    fs::remove_dir(dir.join("key-next.pem")).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    bundle.write(&dir, Overwrite::Refuse).unwrap();
}
