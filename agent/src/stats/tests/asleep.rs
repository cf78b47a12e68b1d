//! What is read of a cgroup in which nothing runs.

use super::super::files::Place;
use super::super::group::Group;
use super::super::scratch::Scratch;
use super::*;

const PATH: &str = "/kubepods/pod12-34";

/// A cgroup that is looked at again and again.
struct Watched {
    tree: Tree,
    group: Group,
    figures: Figures,
    scratch: Scratch,
}

impl Watched {
    fn new() -> Self {
        let tree = Tree::v2(CgroupDriver::Cgroupfs);
        tree.group(PATH, 30, 300);
        let group = Group::open(&place(&tree.layout)).unwrap();
        Self {
            tree,
            group,
            figures: Figures::new(Timestamp::UNIX_EPOCH),
            scratch: Scratch::default(),
        }
    }

    fn look(&mut self, depth: Depth) -> (u64, u64) {
        let place = place(&self.tree.layout);
        let there = self
            .group
            .read(&place, depth, &mut self.figures, &mut self.scratch);
        assert!(there && self.figures.at > Timestamp::UNIX_EPOCH);
        let memory = self.figures.memory.unwrap();
        (memory.usage, memory.rss)
    }

    fn write(&self, name: &str, text: &str) {
        self.tree.write(&format!("{PATH}/{name}"), text);
    }
}

fn place(layout: &Layout) -> Place<'_> {
    Place {
        layout,
        path: PATH,
        has_quota: true,
        has_memory_limit: false,
        is_still: false,
    }
}

#[test]
fn details_are_read_when_something_ran() {
    let mut watched = Watched::new();
    assert_eq!(watched.look(Depth::Full), (300, 10));
    watched.write("memory.stat", "anon 11\n");
    assert_eq!(watched.look(Depth::Full), (300, 10), "nothing ran");
    for (name, text, found) in [
        ("cpu.stat", "usage_usec 31\n", 12),
        ("memory.current", "301\n", 13),
    ] {
        watched.write(name, text);
        watched.write("memory.stat", &format!("anon {found}\n"));
        assert_eq!(watched.look(Depth::Full).1, found, "{name}");
        watched.write("memory.stat", "anon 99\n");
        assert_eq!(watched.look(Depth::Full).1, found, "{name}, and nothing since");
    }
    watched.group.distrust();
    assert_eq!(watched.look(Depth::Full).1, 99);
}

#[test]
fn what_changes_by_itself_is_read_at_each_look() {
    let mut watched = Watched::new();
    watched.look(Depth::Full);
    watched.write("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n");
    watched.write(
        "io.stat",
        "254:0 rbytes=11 wbytes=20 rios=1 wios=2\n8:0 rbytes=1\n",
    );
    watched.look(Depth::Full);
    assert_eq!(watched.figures.pressures.unwrap().cpu.some.total_us, 9);
    assert_eq!(watched.figures.devices.len(), 2);
    watched.write("io.stat", "8:0 rbytes=1\n");
    watched.look(Depth::Full);
    assert_eq!(watched.figures.devices.len(), 1);
}

#[test]
fn a_short_look_leaves_the_rest_for_a_long_one() {
    let mut watched = Watched::new();
    watched.look(Depth::Full);
    watched.write("cpu.stat", "usage_usec 31\n");
    watched.write("memory.stat", "anon 11\n");
    watched.write("memory.events.local", "oom_kill 2\n");
    assert_eq!(watched.look(Depth::Basic), (300, 11));
    assert_eq!(watched.figures.oom_kills, 1, "not asked for");
    watched.look(Depth::Full);
    assert_eq!(watched.figures.oom_kills, 2);
    watched.write("memory.events.local", "oom_kill 3\n");
    watched.look(Depth::Basic);
    watched.look(Depth::Full);
    assert_eq!(watched.figures.oom_kills, 2, "nothing ran");
}

#[test]
fn what_changes_with_the_limits_is_read_with_them() {
    let mut watched = Watched::new();
    watched.look(Depth::Full);
    assert_eq!(watched.figures.processes.threads_max, 0);
    watched.write("pids.max", "9\n");
    watched.write("cpu.stat", "usage_usec 31\n");
    watched.look(Depth::Full);
    assert_eq!(watched.figures.processes.threads_max, 0);
    watched.group.distrust();
    watched.look(Depth::Full);
    assert_eq!(watched.figures.processes.threads_max, 9);
}

#[test]
fn what_is_in_a_still_cgroup_is_still() {
    let mut watched = Watched::new();
    watched.look(Depth::Basic);
    watched.write("cpu.stat", "usage_usec 31\n");
    watched.write("memory.stat", "anon 11\n");
    watched.write("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n");
    let look = |watched: &mut Watched| {
        let place = Place {
            is_still: true,
            ..place(&watched.tree.layout)
        };
        let depth = Depth::Basic;
        assert!(
            watched
                .group
                .read(&place, depth, &mut watched.figures, &mut watched.scratch)
        );
        let pressure = watched.figures.pressures.unwrap().cpu.some.total_us;
        (
            watched.figures.cpu.usage_ns,
            watched.figures.memory.unwrap().rss,
            pressure,
        )
    };
    assert_eq!(look(&mut watched), (30_000, 10, 9), "only what changes by itself");
    watched.group.distrust();
    assert_eq!(look(&mut watched), (31_000, 11, 9));
}

#[test]
fn pods_are_looked_at_when_something_ran_in_one_of_their_class() {
    let tree = Tree::v1();
    for (path, text) in V1_FILES {
        tree.write(path, text);
    }
    let usage = |path: &str, nanos: &str| tree.write(&format!("cpuacct/{path}/cpuacct.usage"), nanos);
    usage("kubepods", "80\n");
    let mut collector = tree.collector();
    let mut look = || {
        collector.collect(&[running()], &ImageNames::default(), Depth::Basic);
        entry(&collector, "12-34").reading().unwrap().figures.cpu.usage_ns
    };
    assert_eq!((look(), look()), (77, 77));
    usage("kubepods/pod12-34", "78\n");
    assert_eq!(look(), 77, "nothing ran in any");
    usage("kubepods", "81\n");
    assert_eq!((look(), look()), (78, 78));
}

#[test]
fn a_cgroup_that_sleeps_holds_few_files() {
    let mut watched = Watched::new();
    watched.look(Depth::Full);
    let awake = watched.group.files();
    assert_eq!(watched.group.numbers().count(), awake);
    for _ in 0..20 {
        watched.look(Depth::Full);
    }
    let asleep = watched.group.files();
    assert!(asleep < awake, "{asleep} of {awake}");
    watched.write("cpu.stat", "usage_usec 31\n");
    watched.write("memory.stat", "anon 11\n");
    assert_eq!(watched.look(Depth::Full), (300, 11));
    assert_eq!(watched.group.files(), awake);
    watched.group.close();
    assert_eq!(watched.group.files(), 0);
    assert_eq!(watched.look(Depth::Full), (300, 11));
    fs::remove_dir_all(watched.tree.folder.path().join("kubepods")).unwrap();
    watched.group.close();
    let place = place(&watched.tree.layout);
    assert!(
        !watched
            .group
            .read(&place, Depth::Full, &mut watched.figures, &mut watched.scratch)
    );
}
