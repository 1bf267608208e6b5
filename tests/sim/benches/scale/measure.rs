//! The figures of each size over all rounds, with their ranges and how they grow.

/// What was measured of one size in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) attended: f64,
    pub(crate) kib_per_node: f64,
    pub(crate) changes_per_second: f64,
    pub(crate) bytes_per_instance: f64,
    pub(crate) starts_per_second: f64,
    pub(crate) beats_per_second: f64,
    pub(crate) rebuilt: f64,
    pub(crate) rebuilt_per_second: f64,
}

type Of = fn(&Figures) -> f64;

const LINES: [(&str, Of); 8] = [
    ("until all nodes attend, s", |of| of.attended),
    ("memory per node, KiB", |of| of.kib_per_node),
    ("changes of instances taken in per second", |of| of.changes_per_second),
    ("memory per instance, bytes", |of| of.bytes_per_instance),
    ("starts placed and acknowledged per second", |of| of.starts_per_second),
    ("beats handled per second", |of| of.beats_per_second),
    ("until all is known again after kill -9, s", |of| of.rebuilt),
    ("instances known again per second", |of| of.rebuilt_per_second),
];

/// The figures of all sizes, in the order in which they were first measured.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(usize, Vec<Figures>)>);

impl Table {
    pub(crate) fn add(&mut self, nodes: usize, figures: Figures) {
        match self.0.iter_mut().find(|(known, _)| *known == nodes) {
            Some((_, all)) => all.push(figures),
            None => self.0.push((nodes, vec![figures])),
        }
    }

    pub(crate) fn print(&self) {
        print!("{:<44}", "scale");
        for (nodes, all) in &self.0 {
            print!("{:>28}", format!("{nodes} nodes ({} rounds)", all.len()));
        }
        println!("{:>12}", "last/first");
        for (name, of) in LINES {
            print!("{name:<44}");
            for (_, all) in &self.0 {
                let (least, median, most) = range(all.iter().map(of).collect());
                print!("{:>28}", format!("{median:.1} ({least:.1} to {most:.1})"));
            }
            let growth = self.growth(of).map(|growth| format!("{growth:.2}")).unwrap_or_default();
            println!("{growth:>12}");
        }
    }

    /// The median of the last size by that of the first.
    fn growth(&self, of: Of) -> Option<f64> {
        let median = |(_, all): &(usize, Vec<Figures>)| range(all.iter().map(of).collect()).1;
        (self.0.len() > 1).then(|| Some(median(self.0.last()?) / median(self.0.first()?))).flatten()
    }
}

fn range(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
