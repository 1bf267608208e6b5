//! What a guest's calls of wasi:keyvalue become, and how the answers come back; also wasi:config and wasi:logging.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use wasmatrix_executor_api::{
    Artifact, Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, KvCall,
    KvReply, Output, Page, Swapped, Version, Versioned,
};
use wasmatrix_model::{BucketName, ExitCause, Key, LogLevel};

use crate::{
    harness::{Job, Recorder, config},
    worlds,
};

fn bucket(name: &str) -> BucketName {
    name.parse().unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

struct Outcome {
    exit: ExitCause,
    printed: String,
    calls: Vec<KvCall>,
}

async fn run(artifact: Artifact, answers: Vec<Result<KvReply, CapabilityError>>) -> Outcome {
    let answers = answers.into_iter().map(|answer| answer.map(CapabilityReply::Kv)).collect();
    let recorder = Arc::new(Recorder { answers: Mutex::new(answers), ..Recorder::default() });
    let job = Job { capabilities: recorder.clone(), ..Job::new(artifact) };
    let exit = job.run().await;
    let calls = recorder.calls.lock().unwrap().drain(..).map(|CapabilityCall::Kv(call)| call).collect();
    Outcome { exit, printed: job.console.text(Output::Stdout), calls }
}

#[tokio::test]
async fn each_operation_becomes_one_call() {
    let body = r#"(data (i32.const 100) "keyvalue")
        (func (export "_start") (local $b i32)
            (local.set $b (call $open_default))
            (call $set (local.get $b) (i32.const 100) (i32.const 3) (i32.const 103) (i32.const 5) (i32.const 1024))
            (call $expect_ok (i32.const 101))
            (call $get (local.get $b) (i32.const 100) (i32.const 3) (i32.const 1024))
            (call $expect_ok (i32.const 102))
            (call $print (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))
            (call $exists (local.get $b) (i32.const 100) (i32.const 3) (i32.const 1024))
            (call $expect_ok (i32.const 103))
            (if (i32.eqz (i32.load8_u (i32.const 1028))) (then (call $exit (i32.const 104))))
            (call $delete (local.get $b) (i32.const 100) (i32.const 3) (i32.const 1024))
            (call $expect_ok (i32.const 105))
            (call $increment (local.get $b) (i32.const 100) (i32.const 3) (i64.const 5) (i32.const 1024))
            (call $expect_ok (i32.const 106))
            (call $exit (i32.wrap_i64 (i64.load (i32.const 1032)))))"#;
    for artifact in [worlds::draft(body), worlds::draft_2_with(worlds::PAIR_WITH_OPTION, body)] {
        let answers = vec![
            Ok(KvReply::Done),
            Ok(KvReply::Value(Some("found".into()))),
            Ok(KvReply::Exists(true)),
            Ok(KvReply::Done),
            Ok(KvReply::Number(7)),
        ];
        let outcome = run(artifact, answers).await;
        assert_eq!(outcome.exit, ExitCause::Exited { code: 7 });
        assert_eq!(outcome.printed, "found");
        let (bucket, key) = (|| bucket("default"), || key("key"));
        assert_eq!(
            outcome.calls,
            [
                KvCall::Set { bucket: bucket(), key: key(), value: "value".into() },
                KvCall::Get { bucket: bucket(), key: key() },
                KvCall::Exists { bucket: bucket(), key: key() },
                KvCall::Delete { bucket: bucket(), key: key() },
                KvCall::Increment { bucket: bucket(), key: key(), delta: 5 },
            ]
        );
    }
}

#[tokio::test]
async fn a_listing_goes_on_where_it_left_off() {
    let numbers = worlds::draft(
        r#"(func (export "_start") (local $b i32)
            (local.set $b (call $open_default))
            (call $list (local.get $b) (i32.const 0) (i64.const 0) (i32.const 1024))
            (call $expect_ok (i32.const 101))
            (call $list (local.get $b) (i32.load8_u (i32.const 1040)) (i64.load (i32.const 1048)) (i32.const 1024))
            (call $expect_ok (i32.const 102))
            (if (i32.load8_u (i32.const 1040)) (then (call $exit (i32.const 103))))
            (call $exit (i32.load (i32.const 1036))))"#,
    );
    let text = worlds::draft_2_with(
        worlds::OPTION_OF_PAIR,
        r#"(func (export "_start") (local $b i32)
            (local.set $b (call $open_default))
            (call $list (local.get $b) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024))
            (call $expect_ok (i32.const 101))
            (call $list (local.get $b) (i32.load8_u (i32.const 1036)) (i32.load (i32.const 1040))
                (i32.load (i32.const 1044)) (i32.const 1024))
            (call $expect_ok (i32.const 102))
            (if (i32.load8_u (i32.const 1036)) (then (call $exit (i32.const 103))))
            (call $exit (i32.load (i32.const 1032))))"#,
    );
    for artifact in [numbers, text] {
        let answers = vec![
            Ok(KvReply::Keys(Page { keys: vec![key("a"), key("b")], more: true })),
            Ok(KvReply::Keys(Page { keys: vec![key("c")], more: false })),
        ];
        let outcome = run(artifact, answers).await;
        assert_eq!(outcome.exit, ExitCause::Exited { code: 1 });
        assert_eq!(
            outcome.calls,
            [
                KvCall::List { bucket: bucket("default"), after: None },
                KvCall::List { bucket: bucket("default"), after: Some(key("b")) },
            ]
        );
    }
}

#[tokio::test]
async fn a_lost_race_gives_a_fresh_handle() {
    let artifact = worlds::draft_2_with(
        worlds::OPTION_OF_PAIR,
        r#"(data (i32.const 100) "k")
        (func $current (param $cas i32)
            (call $cas_current (local.get $cas) (i32.const 1024))
            (call $expect_ok (i32.const 102))
            (call $print (i32.load (i32.const 1032)) (i32.load (i32.const 1036))))
        (func (export "_start") (local $cas i32)
            (call $cas_new (call $open_default) (i32.const 100) (i32.const 1) (i32.const 1024))
            (call $expect_ok (i32.const 101))
            (local.set $cas (i32.load (i32.const 1028)))
            (call $current (local.get $cas))
            (call $swap (local.get $cas) (i32.const 100) (i32.const 1) (i32.const 1024))
            (if (i32.eqz (i32.load8_u (i32.const 1024))) (then (call $exit (i32.const 103))))
            (if (i32.ne (i32.load8_u (i32.const 1028)) (i32.const 1)) (then (call $exit (i32.const 104))))
            (local.set $cas (i32.load (i32.const 1032)))
            (call $current (local.get $cas))
            (call $swap (local.get $cas) (i32.const 100) (i32.const 1) (i32.const 1024))
            (call $expect_ok (i32.const 105)))"#,
    );
    let seen = |value: &'static str, version| {
        Ok(KvReply::Versioned(Some(Versioned { value: value.into(), version: Version(version) })))
    };
    let answers = vec![
        seen("old", 3),
        Ok(KvReply::Swapped(Swapped::Stale)),
        seen("new", 4),
        Ok(KvReply::Swapped(Swapped::Done)),
    ];
    let outcome = run(artifact, answers).await;
    assert_eq!(outcome.exit, ExitCause::Exited { code: 0 });
    assert_eq!(outcome.printed, "oldnew");
    let swap = |version| KvCall::Swap {
        bucket: bucket("default"),
        key: key("k"),
        expected: Some(Version(version)),
        value: "k".into(),
    };
    assert_eq!([&outcome.calls[1], &outcome.calls[3]], [&swap(3), &swap(4)]);
}

#[tokio::test]
async fn a_batch_is_answered_in_the_shape_that_the_guest_knows() {
    // Two names at 200; the answer's elements have 20 bytes each. The guest prints the one value and leaves with 7
    // if the other is none.
    let body = |some: u32, value: u32| {
        format!(
            r#"(data (i32.const 100) "ab")
            (data (i32.const 200) "\64\00\00\00\01\00\00\00\65\00\00\00\01\00\00\00")
            (func (export "_start") (local $b i32) (local $list i32)
                (local.set $b (call $open_default))
                (call $get_many (local.get $b) (i32.const 200) (i32.const 2) (i32.const 1024))
                (call $expect_ok (i32.const 101))
                (if (i32.ne (i32.load (i32.const 1032)) (i32.const 2)) (then (call $exit (i32.const 102))))
                (local.set $list (i32.load (i32.const 1028)))
                (call $print (i32.load offset={value} (local.get $list)) (i32.load offset={} (local.get $list)))
                (call $delete_many (local.get $b) (i32.const 200) (i32.const 2) (i32.const 1024))
                (call $expect_ok (i32.const 103))
                (if (i32.eqz (i32.load8_u offset={} (local.get $list))) (then (call $exit (i32.const 7)))))"#,
            value + 4,
            20 + some,
        )
    };
    let options = body(0, 12);
    let pairs = body(8, 12);
    for artifact in [
        worlds::draft_with(worlds::OPTION_OF_PAIR, &options),
        worlds::draft_with(worlds::PAIR_WITH_OPTION, &pairs),
        worlds::draft_2_with(worlds::OPTION_OF_PAIR, &options),
        worlds::draft_2_with(worlds::PAIR_WITH_OPTION, &pairs),
    ] {
        let answers = vec![Ok(KvReply::Values(vec![Some("one".into()), None])), Ok(KvReply::Done)];
        let outcome = run(artifact, answers).await;
        assert_eq!((outcome.exit, outcome.printed.as_str()), (ExitCause::Exited { code: 7 }, "one"));
        let keys = || vec![key("a"), key("b")];
        assert_eq!(
            outcome.calls,
            [
                KvCall::GetMany { bucket: bucket("default"), keys: keys() },
                KvCall::DeleteMany { bucket: bucket("default"), keys: keys() },
            ]
        );
    }
}

/// Opens the bucket that is named at 100 with `$len` bytes and gets the key at 120; prints the error's message, and
/// leaves with 50 and the number of its case.
fn failing(name: &str, key: &str) -> Artifact {
    worlds::draft(&format!(
        r#"(data (i32.const 100) "{name}") (data (i32.const 120) "{key}")
        (func $fail
            (if (i32.eq (i32.load8_u (i32.const 1028)) (i32.const 2))
                (then (call $print (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))))
            (call $exit (i32.add (i32.const 50) (i32.load8_u (i32.const 1028)))))
        (func (export "_start")
            (call $open (i32.const 100) (i32.const {}) (i32.const 1024))
            (if (i32.load8_u (i32.const 1024)) (then (call $fail)))
            (call $get (i32.load (i32.const 1028)) (i32.const 120) (i32.const {}) (i32.const 1024))
            (if (i32.load8_u (i32.const 1024)) (then (call $fail))))"#,
        name.len(),
        key.len()
    ))
}

#[tokio::test]
async fn errors_are_told_in_the_words_of_the_interface() {
    let outcome = run(failing("not a name", "k"), vec![]).await;
    assert_eq!(outcome.exit, ExitCause::Exited { code: 50 }, "no such store");
    assert_eq!(outcome.calls, []);

    let outcome = run(failing("@team", "k"), vec![]).await;
    assert_eq!(outcome.exit, ExitCause::Exited { code: 51 }, "access denied");
    assert_eq!(outcome.calls, [KvCall::Get { bucket: bucket("@team"), key: key("k") }]);

    let outcome = run(failing("", ""), vec![]).await;
    assert_eq!(outcome.exit, ExitCause::Exited { code: 52 }, "another error");
    assert!(outcome.printed.starts_with("INVALID_REQUEST: "), "{}", outcome.printed);
    assert_eq!(outcome.calls, []);

    let away = CapabilityError::new(CapabilityErrorKind::Unavailable, "the provider is stopped");
    let outcome = run(failing("", "k"), vec![Err(away)]).await;
    assert_eq!(outcome.exit, ExitCause::Exited { code: 52 }, "another error");
    assert_eq!(outcome.printed, "PROVIDER_UNAVAILABLE: the provider is stopped");
}

#[tokio::test]
async fn a_wrong_answer_is_the_hosts_fault() {
    let outcome = run(failing("", "k"), vec![Ok(KvReply::Done)]).await;
    assert!(matches!(outcome.exit, ExitCause::HostFault { .. }), "{:?}", outcome.exit);
}

struct Panicking;

#[async_trait]
impl Capabilities for Panicking {
    async fn call(&self, _: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_panic_of_the_host_ends_one_run_and_no_other() {
    let executor = config().build().unwrap();
    let spin = crate::harness::module(r#"(func (export "_start") (loop (br 0)))"#);
    let mut neighbour = Job::new(spin).start(&executor).await.unwrap();
    let job = Job { capabilities: Arc::new(Panicking), ..Job::new(failing("", "k")) };
    let exit = job.start(&executor).await.unwrap().exited().await;
    assert_eq!(exit, ExitCause::HostFault { message: "the host panicked: on purpose".into() });
    assert_eq!(neighbour.stop().await, ExitCause::StopRequested);
}

#[tokio::test]
async fn what_is_logged_goes_to_the_log() {
    let job = Job::new(worlds::logging(
        r#"(data (i32.const 100) "herewhat")
        (func (export "_start")
            (call $log (i32.const 3) (i32.const 100) (i32.const 4) (i32.const 104) (i32.const 4)))"#,
    ));
    assert_eq!(job.run().await, ExitCause::Exited { code: 0 });
    assert_eq!(*job.console.logged.lock().unwrap(), [(LogLevel::Warn, "here".into(), "what".into())]);
}

#[tokio::test]
async fn configuration_is_that_of_the_launch_under_every_name() {
    let body = r#"(data (i32.const 100) "colour")
        (func (export "_start")
            (call $get (i32.const 100) (i32.const 6) (i32.const 1024))
            (call $expect_ok (i32.const 101))
            (call $print (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))
            (call $get (i32.const 100) (i32.const 3) (i32.const 1024))
            (if (i32.load8_u (i32.const 1028)) (then (call $exit (i32.const 102))))
            (call $get_all (i32.const 1024))
            (call $expect_ok (i32.const 103))
            (call $exit (i32.load (i32.const 1032))))"#;
    for (interface, version) in [
        ("store", "0.2.0-rc.1"),
        ("store", "0.2.0-draft"),
        ("store", "0.2.0-draft-2024-09-27"),
        ("runtime", "0.2.0-draft"),
    ] {
        let mut job = Job::new(worlds::config(interface, version, body));
        job.config = [("colour".to_owned(), "red".to_owned()), ("size".to_owned(), "9".to_owned())].into();
        assert_eq!(job.run().await, ExitCause::Exited { code: 2 });
        assert_eq!(job.console.text(Output::Stdout), "red");
    }
}
