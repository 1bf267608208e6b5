//! What the cache on disk must refuse: entries that were changed, cut off, renamed, or made by somebody else.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::fs::symlink,
};

use tempfile::TempDir;

use super::*;

const ANYTHING: u64 = 1 << 30;
const CODE: &[u8] = &[0xc0; 1000];

fn name() -> String {
    engine_name("a test", &"an engine")
}

struct Fixture {
    dir: TempDir,
}

fn fixture() -> Fixture {
    Fixture { dir: TempDir::new().unwrap() }
}

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

impl Fixture {
    fn open(&self) -> Option<Cache> {
        Cache::open(self.dir.path(), ANYTHING, name())
    }

    fn stored(&self) -> (Cache, PathBuf) {
        let cache = self.open().unwrap();
        cache.store(digest("a"), CODE);
        let path = cache.path(digest("a"));
        (cache, path)
    }

    fn entries(&self) -> usize {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(SUFFIX)).count()
    }
}

#[test]
fn what_was_stored_is_loaded_by_the_next_process_too() {
    let fixture = fixture();
    let (cache, _) = fixture.stored();
    assert!(cache.load(digest("a")).is_some());
    assert!(cache.load(digest("b")).is_none());
    let next = fixture.open().unwrap();
    assert!(next.load(digest("a")).is_some());
}

#[test]
fn an_entry_that_was_touched_is_deleted_and_never_loaded() {
    let fixture = fixture();
    for touch in [
        |bytes: &mut Vec<u8>| bytes[MAC_BYTES + 100] ^= 1,
        |bytes: &mut Vec<u8>| bytes[0] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1),
        |bytes: &mut Vec<u8>| bytes.truncate(10),
        Vec::clear,
    ] {
        let (cache, path) = fixture.stored();
        let mut bytes = fs::read(&path).unwrap();
        touch(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert!(cache.load(digest("a")).is_none());
        assert!(!path.exists());
    }
}

#[test]
fn an_entry_can_not_stand_in_for_another() {
    let fixture = fixture();
    let (cache, path) = fixture.stored();
    fs::rename(path, cache.path(digest("b"))).unwrap();
    assert!(cache.load(digest("b")).is_none());
}

#[test]
fn an_entry_of_another_node_is_not_loaded() {
    let (ours, theirs) = (fixture(), fixture());
    let (_, foreign) = theirs.stored();
    let cache = ours.open().unwrap();
    fs::copy(foreign, cache.path(digest("a"))).unwrap();
    assert!(cache.load(digest("a")).is_none());
}

#[test]
fn the_key_is_private_and_one_that_was_not_is_replaced() {
    let fixture = fixture();
    let (cache, _) = fixture.stored();
    let key = fixture.dir.path().join(KEY_FILE);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let next = fixture.open().unwrap();
    assert_ne!(next.key, cache.key);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(next.load(digest("a")).is_none(), "the old key vouches for nothing");
    fs::write(&key, b"short").unwrap();
    assert!(fixture.open().is_some());
}

#[test]
fn a_directory_that_is_not_ours_alone_is_not_used() {
    let fixture = fixture();
    let shared = fixture.dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    assert!(Cache::open(&shared, ANYTHING, name()).is_none());
    let link = fixture.dir.path().join("link");
    symlink(fixture.dir.path(), &link).unwrap();
    assert!(Cache::open(&link, ANYTHING, name()).is_none());
    let file = fixture.dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Cache::open(&file, ANYTHING, name()).is_none());
    let new = fixture.dir.path().join("new/er");
    assert!(Cache::open(&new, ANYTHING, name()).is_some());
    assert_eq!(fs::metadata(new).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_cache_is_bounded_and_the_least_recently_used_goes_first() {
    let fixture = fixture();
    let (cache, path) = fixture.stored();
    let one = fs::metadata(path).unwrap().len();
    let small = Cache { bytes_max: 2 * one + one / 2, ..cache };
    let age = |of: &str, seconds: i64| {
        let file = File::open(small.path(digest(of))).unwrap();
        let then = Timespec { tv_sec: seconds, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: then, last_modification: then }).unwrap();
    };
    small.store(digest("b"), CODE);
    age("a", 1);
    age("b", 2);
    assert!(small.load(digest("a")).is_some(), "now b is the older");
    small.store(digest("c"), CODE);
    assert_eq!(fixture.entries(), 2);
    assert!(small.load(digest("b")).is_none());
    assert!(small.load(digest("a")).is_some());
}

#[test]
fn engines_have_names_of_their_own() {
    let names = [engine_name("a", &"x"), engine_name("b", &"x"), engine_name("a", &"y")];
    assert!(names[0] != names[1] && names[0] != names[2] && names.iter().all(|name| name.len() == 16));
    let fixture = fixture();
    fixture.stored();
    let other = Cache::open(fixture.dir.path(), ANYTHING, names[0].clone()).unwrap();
    assert!(other.load(digest("a")).is_none());
}

#[test]
fn executors_that_share_a_directory_keep_code_for_the_same_artifact_side_by_side() {
    let fixture = fixture();
    let (ours, _) = fixture.stored();
    let one = fs::metadata(ours.path(digest("a"))).unwrap().len();
    let theirs =
        Cache::open(fixture.dir.path(), 2 * one, engine_name("another executor", &"an engine")).unwrap();
    theirs.store(digest("a"), b"other code");
    assert_eq!(ours.load(digest("a")).as_deref(), Some(CODE));
    assert_eq!(theirs.load(digest("a")).as_deref(), Some(b"other code".as_slice()));

    fs::rename(theirs.path(digest("a")), ours.path(digest("a"))).unwrap();
    assert!(ours.load(digest("a")).is_none(), "one executor's code can't stand in for another's");

    ours.store(digest("a"), CODE);
    theirs.store(digest("b"), CODE);
    theirs.store(digest("c"), CODE);
    assert_eq!(fixture.entries(), 2, "the bound is for all of them together");
}

#[test]
fn what_its_owner_has_no_use_for_is_deleted() {
    let fixture = fixture();
    let (cache, path) = fixture.stored();
    cache.discard(digest("a"), &"of no use");
    assert!(!path.exists());
    cache.discard(digest("a"), &"of no use");
    assert!(cache.load(digest("a")).is_none());
}

#[test]
fn the_key_is_not_shown() {
    let fixture = fixture();
    let (cache, _) = fixture.stored();
    assert!(!format!("{cache:?}").contains(&format!("{:?}", cache.key)));
}
