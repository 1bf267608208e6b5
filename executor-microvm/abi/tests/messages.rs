//! Whatever a guest writes, the host's parser returns, and gives back no more than it was given.

use proptest::{collection::vec, option, prelude::*};
use wasmatrix_microvm_abi::{
    End, KvAnswer, KvRequest, LastWords, Malformed, Request, Response, StackFrame, Start,
    kv::{BATCH_ENTRIES_MAX, Operation},
    layout::STREAM_BYTES_MAX,
};

fn frame() -> impl Strategy<Value = StackFrame> {
    (option::of(".{0,20}"), option::of(".{0,20}"), any::<u32>(), option::of(any::<u64>()))
        .prop_map(|(module, function, index, offset)| StackFrame { module, function, index, offset })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        any::<u8>().prop_map(|code| End::Exited { code }),
        (".{0,40}", vec(frame(), 0..=64)).prop_map(|(trap, backtrace)| End::Trapped { trap, backtrace }),
        (any::<u8>(), ".{0,40}").prop_map(|(limit, message)| End::LimitReached { limit, message }),
        ".{0,40}".prop_map(|message| End::StartFailed { message }),
        ".{0,40}".prop_map(|message| End::RuntimeFailed { message }),
    ]
}

/// One of each request, from values that it can borrow.
fn requests<'a>(text: &'a str, bytes: &'a [u8], number: u64, flag: bool, end: &End) -> Vec<Request<'a>> {
    let kv = |operation| Request::Kv(KvRequest { bucket: text, operation });
    let keys = vec![text; 3];
    vec![
        Request::Ready,
        Request::Commit { address: number, bytes: number },
        Request::Write { to_stderr: flag, bytes },
        Request::Read { bytes_max: number as u32, wait: flag },
        Request::Wait { deadline_nanos: flag.then_some(number), stdin: flag },
        Request::MonotonicClock,
        Request::WallClock,
        Request::Random { bytes: number as u32 },
        Request::Log { level: number as u8, context: text, message: text },
        kv(Operation::Get { key: text }),
        kv(Operation::Set { key: text, value: bytes }),
        kv(Operation::Delete { key: text }),
        kv(Operation::Exists { key: text }),
        kv(Operation::List { after: flag.then_some(text) }),
        kv(Operation::Increment { key: text, delta: number as i64 }),
        kv(Operation::Current { key: text }),
        kv(Operation::Swap { key: text, expected: flag.then_some(number), value: bytes }),
        kv(Operation::GetMany { keys: keys.clone() }),
        kv(Operation::SetMany { entries: vec![(text, bytes); 3] }),
        kv(Operation::DeleteMany { keys }),
        Request::End(end.clone()),
        Request::Started,
        Request::Loaded,
        Request::Instantiated { memory_bytes: number, table_elements: number },
    ]
}

fn responses(text: &str, bytes: &[u8], number: u64, flag: bool) -> Vec<Response> {
    let text = text.to_owned();
    let pairs = vec![(text.clone(), text.clone()); 3];
    let found = flag.then(|| bytes.to_vec());
    let start = Start {
        args: vec![text.clone(); 3],
        env: pairs.clone(),
        config: pairs,
        memory_bytes_max: number,
        table_elements_max: number,
        handles_max: number as u32,
        terminals: [flag, !flag, flag],
    };
    vec![
        Response::Start(start),
        Response::Load { artifact_bytes: number },
        Response::Instantiate,
        Response::Touch { stretches: vec![(number, number); 3] },
        Response::Yes,
        Response::No,
        Response::Bytes(bytes.to_vec()),
        Response::Number(number),
        Response::Time { seconds: number, nanoseconds: number as u32 },
        Response::Kv(KvAnswer::Value(found.clone())),
        Response::Kv(KvAnswer::Done),
        Response::Kv(KvAnswer::Exists(flag)),
        Response::Kv(KvAnswer::Keys { keys: vec![text.clone(); 3], more: flag }),
        Response::Kv(KvAnswer::Number(number as i64)),
        Response::Kv(KvAnswer::Versioned(found.clone().map(|value| (value, number)))),
        Response::Kv(KvAnswer::Swapped(flag)),
        Response::Kv(KvAnswer::Values(vec![found; 3])),
        Response::Kv(KvAnswer::Denied { message: text.clone() }),
        Response::Kv(KvAnswer::Failed { message: text }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in vec(any::<u8>(), 0..600)) {
        if let Ok(request) = Request::parse(&bytes) {
            // There is one way to write each request, so what was accepted is what would have been written.
            prop_assert_eq!(request.encode(), bytes);
        }
    }

    /// Random bytes seldom get past the first number; damaged requests get deep.
    #[test]
    fn damaged_requests_are_parsed_or_refused(
        text in ".{0,30}", bytes in vec(any::<u8>(), 0..60), number: u64, flag: bool, end in end(),
        at: prop::sample::Index, value: u8, cut: prop::sample::Index,
    ) {
        for request in requests(&text, &bytes, number, flag, &end) {
            let mut encoded = request.encode();
            *at.get_mut(&mut encoded) = value;
            if let Ok(other) = Request::parse(&encoded) {
                prop_assert_eq!(other.encode(), encoded.clone());
            }
            let _refused_or_not = Request::parse(&encoded[..cut.index(encoded.len())]);
        }
    }

    #[test]
    fn last_words_are_a_request_like_any_other(reason in ".{0,400}") {
        let words = LastWords::of(&reason);
        let Ok(Request::End(End::RuntimeFailed { message })) = Request::parse(words.request()) else {
            panic!("they are no such request: {words:?}")
        };
        prop_assert!(reason.starts_with(&message));
        prop_assert!(message == reason || (509..=512).contains(&message.len()), "{}", message.len());
    }

    #[test]
    fn messages_read_back_as_themselves(
        text in ".{0,30}", bytes in vec(any::<u8>(), 0..60), number: u64, flag: bool, end in end(),
    ) {
        for request in requests(&text, &bytes, number, flag, &end) {
            let encoded = request.encode();
            prop_assert_eq!(Request::parse(&encoded), Ok(request));
            prop_assert!(Request::parse(&encoded[..encoded.len() - 1]).is_err(), "cut off");
            prop_assert!(Request::parse(&[&encoded[..], &[0]].concat()).is_err(), "something follows");
        }
        for response in responses(&text, &bytes, number, flag) {
            prop_assert_eq!(Response::parse(&response.encode()), Ok(response));
        }
    }
}

/// What is many times as large in memory as on the wire is counted before it is made.
#[test]
fn there_is_no_more_of_anything_than_may_be() {
    let kv = |operation| Request::Kv(KvRequest { bucket: "b", operation }).encode();
    let (keys, entries) = (vec!["k"; BATCH_ENTRIES_MAX + 1], vec![("k", &b"v"[..]); BATCH_ENTRIES_MAX + 1]);
    let frame = StackFrame { module: None, function: None, index: 0, offset: None };
    let chunk = vec![0; STREAM_BYTES_MAX as usize + 1];
    for request in [
        kv(Operation::GetMany { keys: keys.clone() }),
        kv(Operation::DeleteMany { keys: keys.clone() }),
        kv(Operation::SetMany { entries }),
        Request::End(End::Trapped { trap: String::new(), backtrace: vec![frame; 65] }).encode(),
        Request::Write { to_stderr: false, bytes: &chunk }.encode(),
    ] {
        assert_eq!(Request::parse(&request), Err(Malformed::TooMuch));
    }
    assert!(Request::parse(&kv(Operation::GetMany { keys: keys[1..].to_vec() })).is_ok());
    assert!(Request::parse(&Request::Write { to_stderr: false, bytes: &chunk[1..] }.encode()).is_ok());
}

#[test]
fn a_count_is_never_believed_beyond_the_bytes_that_follow() {
    // A batch of 4 billion keys, and of a million in ten bytes.
    for count in [u32::MAX, 1_000_000, 11] {
        let mut bytes = vec![9, 0, 0, 0, 0, 8];
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 10]);
        assert!(Request::parse(&bytes).is_err(), "{count}");
    }
}
