//! What the other processes of the benchmark do.

use std::{io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    net::TcpListener,
};
use wasmatrix_control_plane::{Config, Timetable, serve};
use wasmatrix_identity::Incoming;
use wasmatrix_model::{Capacity, Digest, InstanceSpec};
use wasmatrix_sim::{Net, Seed, SimClock, SimNode, Traits};

/// What every instance runs, as far as it runs.
pub(crate) const ARTIFACT: Bytes = Bytes::from_static(b"not even Wasm");

pub(crate) fn digest() -> Digest {
    Digest::of(&ARTIFACT)
}

/// Plays a role until nobody speaks to it any more.
pub(crate) async fn play(role: &str, words: impl Iterator<Item = String>) {
    let words: Vec<String> = words.collect();
    let word = |name: &str| {
        let given = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        given.expect("the benchmark says it")
    };
    let number = |name: &str| word(name).parse::<u64>().expect("a number");
    match role {
        "control-plane" => {
            let port = u16::try_from(number("port")).expect("a port");
            control_plane(port, Duration::from_micros(number("heartbeat"))).await;
        }
        _ => {
            let (first, count) = (number("first"), number("count"));
            nodes(first..first + count, number("sharing"), word("control-plane")).await;
        }
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("the benchmark listens");
}

async fn control_plane(port: u16, heartbeat: Duration) {
    let timetable = Timetable { heartbeat, ..Timetable::default() };
    let plane = Config { timetable, ..Config::default() }.begin().expect("the timetable is in order");
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    say(&format!("http://{}", listener.local_addr().expect("it has an address")));
    let ended = async {
        let mut lines = BufReader::new(stdin()).lines();
        while let Ok(Some(_)) = lines.next_line().await {}
    };
    tokio::select! {
        served = serve(Incoming::plain(listener), plane, std::future::pending(), Duration::ZERO) => served.expect("it serves"),
        () = ended => {}
    }
}

/// The nodes of these numbers. Of those before number `sharing`, some attend over one connection.
async fn nodes(numbers: std::ops::Range<u64>, sharing: u64, control_plane: &str) {
    let clock = Arc::new(SimClock::of_the_machine());
    let mut nodes = Vec::new();
    let mut connection = Net::Loopback.channel(control_plane, None);
    for number in numbers {
        let id = format!("node-{number}").parse().expect("a legal name");
        let capacity =
            Capacity { instances_max: 10_000, memory_bytes_max: None, memory_bytes_total: 1 << 50 };
        let traits = Traits { capacity, ..Traits::new(id, Seed::new(1)) };
        let mut node = SimNode::new(traits, Net::Loopback, None, Arc::clone(&clock), control_plane);
        if number < sharing {
            if number.is_multiple_of(crate::SHARERS as u64) {
                connection = Net::Loopback.channel(control_plane, None);
            }
            node = node.sharing(connection.clone());
        }
        node.boot().await.expect("a port can be had");
        nodes.push(node);
    }
    say("up");
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let machines = || nodes.iter().filter_map(SimNode::machine);
        match line.split_once(' ') {
            Some(("fill", count)) => {
                let count: u64 = count.parse().expect("a number");
                for machine in machines() {
                    for number in 0..count {
                        let name = format!("{}-{number}", machine.traits().id).parse().expect("a legal name");
                        machine
                            .start(InstanceSpec::new(name, digest()).into(), Some(ARTIFACT))
                            .expect("there is room");
                    }
                    // Other tasks want to tell of it meanwhile.
                    tokio::task::yield_now().await;
                }
                say("filled");
            }
            _ => say(&machines().map(|machine| machine.beats_heard()).sum::<u64>().to_string()),
        }
    }
}
