//! What the table of tokens promises, on a clock that stands still until it is turned.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::atomic::{AtomicI64, Ordering},
};

use proptest::prelude::*;

use super::{
    super::{ID_BYTES, SECRET_BYTES, Zeroizing},
    *,
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug, Default)]
struct Dial(AtomicI64);

impl Clock for Dial {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_000_000 + self.0.load(Ordering::Relaxed)).unwrap()
    }
}

fn tokens() -> (Tokens, Arc<Dial>) {
    let clock = Arc::new(Dial::default());
    (Tokens::new(Fingerprint::of(b"ours"), clock.clone()), clock)
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn order(ttl_seconds: u64, uses: u32) -> TokenOrder {
    TokenOrder {
        ttl: Duration::from_secs(ttl_seconds),
        uses: NonZeroU32::new(uses).unwrap(),
        whom: For::AnyNode,
    }
}

#[test]
fn each_way_to_fail_has_its_own_error() {
    let (tokens, clock) = tokens();
    let token = tokens.create(&order(60, 1)).unwrap();
    let text = token.expose();
    let redeem = |text: &str, name: &str| tokens.redeem(text, &node(name), HERE);

    assert_eq!(redeem("wmx1.what", "a"), Err(Malformed.into()));
    let foreign = Token::generate(Fingerprint::of(b"theirs"));
    assert_eq!(redeem(&foreign.expose(), "a"), Err(RedeemError::AnotherCluster(foreign.authority())));
    let unknown = Token::generate(Fingerprint::of(b"ours"));
    assert_eq!(redeem(&unknown.expose(), "a"), Err(RedeemError::Unknown));
    let wrong_secret = Token { secret: unknown.secret.clone(), ..token.clone() };
    assert_eq!(
        redeem(&wrong_secret.expose(), "a"),
        Err(RedeemError::Unknown),
        "and not that the id was right"
    );

    assert_eq!(redeem(&text, "a"), Ok(Redeemed { id: token.id(), node: node("a") }));
    assert_eq!(redeem(&text, "a"), Err(RedeemError::Used(token.id())), "a replay");

    let short = tokens.create(&order(60, 1)).unwrap();
    clock.0.store(60, Ordering::Relaxed);
    assert!(matches!(redeem(&short.expose(), "a"), Err(RedeemError::Expired { .. })));

    let for_b = tokens.create(&TokenOrder { whom: For::Node(node("b")), ..order(60, 1) }).unwrap();
    assert!(matches!(redeem(&for_b.expose(), "a"), Err(RedeemError::AnotherNode { .. })));
    assert!(redeem(&for_b.expose(), "b").is_ok(), "the wrong node did not use it up");
}

#[test]
fn an_order_beyond_a_limit_is_refused() {
    let (tokens, _) = tokens();
    assert_eq!(tokens.create(&order(0, 1)).unwrap_err(), CreateError::Ttl);
    assert_eq!(tokens.create(&order(8 * 86_400, 1)).unwrap_err(), CreateError::Ttl);
    assert_eq!(tokens.create(&order(1, 1001)).unwrap_err(), CreateError::Uses);
    for _ in 0..OUTSTANDING_MAX {
        tokens.create(&order(60, 1)).unwrap();
    }
    assert_eq!(tokens.create(&order(60, 1)).unwrap_err(), CreateError::TooMany);
    assert!(tokens.revoke(tokens.list()[0].id));
    assert!(tokens.create(&order(60, 1)).is_ok());
}

#[test]
fn a_source_that_guesses_is_held_up_and_nobody_else() {
    let (tokens, clock) = tokens();
    let good = tokens.create(&order(600, 1)).unwrap().expose();
    let guess = || Token::generate(Fingerprint::of(b"ours")).expose();
    for _ in 0..FAILURES_BURST {
        assert_eq!(tokens.redeem(&guess(), &node("a"), HERE), Err(RedeemError::Unknown));
    }
    assert_eq!(tokens.redeem(&good, &node("a"), HERE), Err(RedeemError::TooManyFailures));
    let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    assert!(tokens.redeem(&good, &node("a"), elsewhere).is_ok());
    clock.0.store(6, Ordering::Relaxed);
    assert!(matches!(tokens.redeem(&good, &node("a"), HERE), Err(RedeemError::Used(_))));
}

#[test]
fn what_is_remembered_has_a_bound_and_an_end() {
    let (tokens, clock) = tokens();
    for _ in 0..ENDED_MAX + 10 {
        let token = tokens.create(&order(60, 1)).unwrap();
        tokens.redeem(&token.expose(), &node("a"), HERE).unwrap();
    }
    tokens.create(&order(60, 1)).unwrap();
    assert!(tokens.state().tokens.len() <= ENDED_MAX + 1);
    for number in 0..SOURCES_MAX + 10 {
        let from = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()));
        assert!(tokens.redeem("?", &node("a"), from).is_err());
    }
    assert_eq!(tokens.state().failures.len(), SOURCES_MAX);
    clock.0.store(60 + 86_401, Ordering::Relaxed);
    tokens.create(&order(60, 1)).unwrap();
    assert_eq!(tokens.state().tokens.len(), 1, "a day later all is forgotten");
}

#[test]
fn nothing_that_is_printed_gives_the_secret_away() {
    let (tokens, _) = tokens();
    let token = tokens.create(&order(60, 1)).unwrap();
    let text = token.expose();
    let secret = text.split('.').nth(2).unwrap();
    let printed =
        format!("{token:?} {:?} {tokens:?} {:?}", tokens.list(), tokens.redeem(&text, &node("a"), HERE));
    assert!(!printed.contains(secret));
}

#[derive(Clone, Debug)]
enum Step {
    Create { ttl_seconds: u64, uses: u32, whom: Option<u8> },
    Redeem { token: prop::sample::Index, node: u8 },
    Revoke { token: prop::sample::Index },
    Wait { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![1 =>
        (1_u64..100, 1_u32..4, proptest::option::of(0_u8..3)).prop_map(|(ttl_seconds, uses, whom)| Step::Create {
            ttl_seconds,
            uses,
            whom
        }),
        3 => (any::<prop::sample::Index>(), 0_u8..3).prop_map(|(token, node)| Step::Redeem { token, node }),
        1 => any::<prop::sample::Index>().prop_map(|token| Step::Revoke { token }),
        1 => (1_i64..60).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #[test]
    fn a_token_reads_back_as_itself(id: [u8; ID_BYTES], secret: [u8; SECRET_BYTES], authority: Vec<u8>) {
        let token =
            Token { id: TokenId(id), secret: Zeroizing::new(secret), authority: Fingerprint::of(&authority) };
        prop_assert_eq!(format!(" {}\n", token.expose()).parse::<Token>(), Ok(token));
    }

    /// One changed character makes another token or none, and never opens.
    #[test]
    fn a_token_with_one_character_changed_opens_nothing(at: prop::sample::Index, to in "[0-9a-zA-Z.]") {
        let (tokens, _) = tokens();
        let text = tokens.create(&order(60, 1)).unwrap().expose();
        let at = at.index(text.len());
        prop_assume!(!text[at..].starts_with(&to));
        let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
        prop_assert!(tokens.redeem(&changed, &node("a"), HERE).is_err());
        prop_assert!(tokens.redeem(&text, &node("a"), HERE).is_ok());
    }

    #[test]
    fn whatever_is_pasted_is_answered(text in "\\PC{0,300}") {
        let (tokens, _) = tokens();
        prop_assert!(tokens.redeem(&text, &node("a"), HERE).is_err());
    }

    /// Against a model of three numbers a token: no token opens more often, longer or to others than it was made for.
    #[test]
    fn a_token_opens_as_often_as_it_may_until_its_end(steps in proptest::collection::vec(step(), 1..60)) {
        let (tokens, clock) = tokens();
        let mut made = Vec::new();
        let mut model: HashMap<TokenId, (i64, u32, Option<u8>)> = HashMap::new();
        let name = |number: u8| node(&format!("n{number}"));
        for (number, step) in steps.into_iter().enumerate() {
            let now = clock.0.load(Ordering::Relaxed);
            match step {
                Step::Create { ttl_seconds, uses, whom } => {
                    let whom_is = whom.map_or(For::AnyNode, |number| For::Node(name(number)));
                    let token = tokens.create(&TokenOrder { whom: whom_is, ..order(ttl_seconds, uses) }).unwrap();
                    model.insert(token.id(), (now + i64::try_from(ttl_seconds).unwrap(), uses, whom));
                    made.push(token);
                }
                Step::Redeem { token, node } if !made.is_empty() => {
                    let token = &made[token.index(made.len())];
                    // A source of its own each time, so that failures hold up none.
                    let from = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()));
                    let opened = tokens.redeem(&token.expose(), &name(node), from).is_ok();
                    let expected = model.get_mut(&token.id()).is_some_and(|(end, uses, whom)| {
                        let good = now < *end && *uses > 0 && whom.is_none_or(|whom| whom == node);
                        *uses -= u32::from(good);
                        good
                    });
                    prop_assert_eq!(opened, expected);
                }
                Step::Revoke { token } if !made.is_empty() => {
                    let id = made[token.index(made.len())].id();
                    let expected = model.remove(&id).is_some_and(|(end, uses, _)| now < end && uses > 0);
                    prop_assert_eq!(tokens.revoke(id), expected);
                }
                Step::Wait { seconds } => drop(clock.0.fetch_add(seconds, Ordering::Relaxed)),
                Step::Redeem { .. } | Step::Revoke { .. } => {}
            }
            let now = clock.0.load(Ordering::Relaxed);
            let good = model.values().filter(|(end, uses, _)| now < *end && *uses > 0).count();
            prop_assert_eq!(tokens.list().len(), good);
        }
    }
}
