//! What goes wrong, where and when: drawn from a seed, or written down by a test.

use std::{io, ops::RangeInclusive, time::Duration};

use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};

use crate::{Direction, Seed, SimNode};

/// Something that goes wrong with one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every byte takes so long, both ways.
    Delay(Duration),
    /// Bytes arrive slowly in one direction.
    Slow(Direction, u32),
    /// Silence in one direction. Neither side is told.
    Hold(Direction),
    /// Silence both ways.
    Partition,
    /// All its connections end, now.
    Cut,
    /// A connection ends after so many more bytes in that direction, in the middle of a message.
    CutAfter(Direction, u32),
    /// What is asked next is done, and the connection ends without an answer, so many times.
    LoseAnswers(u32),
    /// Its clock is ahead by so many milliseconds, or behind if negative.
    Skew(i64),
    /// Power failure: connections break, all that it held is gone, and it stays down.
    Crash,
    /// It begins anew, empty. One that is up crashes first.
    Boot,
    /// Its line is fine again. What was cut stays cut; the clock stays wrong.
    Heal,
}

impl Fault {
    /// Lets it happen to that node.
    ///
    /// # Errors
    /// A node that was to boot can't listen.
    pub async fn befall(&self, node: &SimNode) -> io::Result<()> {
        let line = |change: &dyn Fn(&crate::Link)| {
            if let Some(link) = node.link() {
                change(link);
            }
        };
        let both = [Direction::Toward, Direction::Away];
        match *self {
            Self::Delay(delay) => line(&|link| {
                both.iter().for_each(|way| link.change(*way, |weather| weather.delay = delay));
            }),
            Self::Slow(direction, rate) => {
                line(&|link| link.change(direction, |weather| weather.bytes_per_second = Some(rate)));
            }
            Self::Hold(direction) => line(&|link| link.hold(direction)),
            Self::Partition => line(&|link| {
                both.iter().for_each(|way| link.hold(*way));
            }),
            Self::Cut => line(&|link| link.cut()),
            Self::CutAfter(direction, bytes) => line(&|link| link.cut_after(direction, bytes)),
            Self::LoseAnswers(count) => node.lose_answers(count),
            Self::Skew(millis) => node.clock().skew(millis),
            Self::Crash => node.crash(),
            Self::Boot => node.boot().await?,
            Self::Heal => line(&|link| link.heal()),
        }
        Ok(())
    }

    fn draw(rng: &mut rand::rngs::StdRng) -> Self {
        let direction = if rng.random() { Direction::Toward } else { Direction::Away };
        match rng.random_range(0..11) {
            0 => Self::Delay(Duration::from_millis(rng.random_range(1..3000))),
            1 => Self::Slow(direction, rng.random_range(200..20_000)),
            2 => Self::Hold(direction),
            3 => Self::Partition,
            4 => Self::Cut,
            5 => Self::CutAfter(direction, rng.random_range(1..4000)),
            6 => Self::LoseAnswers(rng.random_range(1..4)),
            7 => Self::Skew(rng.random_range(-60_000..60_000)),
            8 => Self::Crash,
            9 => Self::Boot,
            _ => Self::Heal,
        }
    }
}

/// A fault, and when and to which node it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How long after the event before it.
    pub after: Duration,
    /// The node's number.
    pub node: usize,
    /// What.
    pub fault: Fault,
}

/// A list of what goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(pub Vec<Event>);

impl Schedule {
    /// So many events on so many nodes, each some time after the one before.
    pub fn draw(seed: Seed, events: usize, nodes: usize, apart: RangeInclusive<Duration>) -> Self {
        let mut rng = seed.of("schedule").rng();
        let event = |_| Event {
            after: rng.random_range(apart.clone()),
            node: rng.random_range(0..nodes.max(1)),
            fault: Fault::draw(&mut rng),
        };
        Self((0..events).map(event).collect())
    }

    /// Lets everything happen to `nodes` in its time.
    ///
    /// # Errors
    /// A node that was to boot can't listen.
    pub async fn run(&self, nodes: &[SimNode]) -> io::Result<()> {
        let mut due = Instant::now();
        for event in &self.0 {
            due += event.after;
            sleep_until(due).await;
            if let Some(node) = nodes.get(event.node) {
                tracing::debug!(node = event.node, fault = ?event.fault, "goes wrong");
                event.fault.befall(node).await?;
            }
        }
        Ok(())
    }

    /// Makes everything right again: lines heal, clocks are set, nodes that are down boot.
    ///
    /// # Errors
    /// A node can't listen.
    pub async fn end(nodes: &[SimNode]) -> io::Result<()> {
        for node in nodes {
            node.lose_answers(0);
            Fault::Skew(0).befall(node).await?;
            Fault::Heal.befall(node).await?;
            if node.machine().is_none() {
                node.boot().await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_follows_from_its_seed() {
        let draw =
            |seed| Schedule::draw(Seed::new(seed), 50, 5, Duration::from_millis(1)..=Duration::from_secs(5));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
