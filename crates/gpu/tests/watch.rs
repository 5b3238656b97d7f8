//! The watch over the simulated library. Its clock runs twenty times as fast, so that what takes seconds does not take them here.
#![expect(clippy::expect_used, reason = "a test's helper may fail the test")]

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use cotenant_gpu::{
    Happening, Health, InstanceIds, Notice, Nvml, QUIET, RecoveryAction, WatchError, XidPolicy, XidWatch,
};
use cotenant_model::{Clock, GpuReader as _, GpuUuid, Nanoseconds};
use cotenant_testkit::nvml::{Change, ErrorCode, Gpu, Library, Scenario};

const FASTER: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(20);

struct Fast(Instant);

impl Clock for Fast {
    fn monotonic(&self) -> Nanoseconds {
        Nanoseconds(u64::try_from((self.0.elapsed() * FASTER).as_nanos()).expect("not that long"))
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        std::thread::sleep(Duration::from_nanos(instant.0.saturating_sub(self.monotonic().0)) / FASTER);
    }
}

struct Watched {
    library: Library,
    reader: Nvml,
    notices: Receiver<Notice>,
    watch: XidWatch,
}

impl Fast {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the test hands out")]
    fn new() -> Self {
        Self(Instant::now())
    }
}

fn watched(scenario: &Scenario) -> Watched {
    let library = scenario.install().expect("the simulated library");
    let reader = Nvml::load(library.path()).expect("a reader");
    let (sender, notices) = mpsc::channel();
    let tell = move |notice| drop(sender.send(notice));
    let watch = XidWatch::start(&reader, Arc::new(Fast::new()), tell).expect("a watch");
    let watched = Watched { library, reader, notices, watch };
    // Events count from registration, which comes before the first answer.
    watched.until(answers);
    watched
}

fn answers(what: &Happening) -> bool {
    matches!(what, Happening::Answered { .. })
}

fn is_lost(what: &Happening) -> bool {
    matches!(what, Happening::Lost { .. })
}

fn uuid(text: &str) -> GpuUuid {
    GpuUuid(text.to_owned())
}

impl Watched {
    /// The next notice of this kind.
    fn until(&self, wanted: impl Fn(&Happening) -> bool) -> Notice {
        self.first(|notice| wanted(&notice.what).then_some(notice))
    }

    /// What the first notice gives that gives something.
    #[expect(clippy::disallowed_methods, reason = "a test that waits for what does not come has to end")]
    fn first<T>(&self, mut give: impl FnMut(Notice) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(given) = give(self.notices.recv_timeout(left).expect("a notice")) {
                return given;
            }
        }
    }

    /// The next notice of an event, which is all but an answer.
    fn event(&self) -> (GpuUuid, Happening) {
        let notice = self.until(|what| !answers(what));
        (notice.gpu, notice.what)
    }
}

#[test]
fn an_xid_error_that_comes_while_it_watches_is_told_with_its_gpu() {
    let watched = watched(&Scenario::of(Gpu::hopper("GPU-0")).with_gpu(Gpu::turing("GPU-1")));
    watched.library.happen(1, Change::Xid(48)).expect("an event");
    assert_eq!(watched.event(), (uuid("GPU-1"), Happening::Xid { xid: 48, instance: None }));
    watched.library.happen(0, Change::InstanceXid(94, 2, 0)).expect("an event");
    let instance = Some(InstanceIds { gpu_instance: 2, compute_instance: 0 });
    assert_eq!(watched.event(), (uuid("GPU-0"), Happening::Xid { xid: 94, instance }));
}

#[test]
fn memory_errors_and_changes_of_mig_devices_are_told() {
    let watched = watched(&Scenario::of(Gpu::hopper("GPU-0").with_instances(&["1g.18gb"])));
    watched.library.happen(0, Change::DoubleBitError).expect("an event");
    assert_eq!(watched.event().1, Happening::MemoryError { corrected: false });
    watched.library.happen(0, Change::SingleBitError).expect("an event");
    assert_eq!(watched.event().1, Happening::MemoryError { corrected: true });
    let other = Scenario::of(Gpu::hopper("GPU-0").with_instances(&["1g.18gb", "2g.35gb"]));
    watched.library.replace(&other).expect("replaced");
    assert_eq!(watched.event(), (uuid("GPU-0"), Happening::MigChanged));
}

#[test]
fn a_lost_gpu_is_told_once_and_is_back_after_nvml_has_started_again() {
    let mut watched = watched(&Scenario::of(Gpu::hopper("GPU-0")).with_gpu(Gpu::hopper("GPU-1")));
    watched.reader.sample(&uuid("GPU-0")).expect("a reading");
    watched.library.happen(0, Change::Lost).expect("an event");
    let (gpu, what) = watched.event();
    assert!(gpu == uuid("GPU-0") && is_lost(&what), "{gpu} {what:?}");
    watched.library.happen(1, Change::Xid(94)).expect("an event");
    assert_eq!(
        watched.event(),
        (uuid("GPU-1"), Happening::Xid { xid: 94, instance: None }),
        "the other is still watched"
    );
    watched.library.happen(0, Change::Back).expect("an event");
    while watched.until(answers).gpu != uuid("GPU-0") {}
    watched.reader.sample(&uuid("GPU-0")).expect("a reader that kept the dead handle looks it up again");
    watched.library.happen(0, Change::Xid(13)).expect("an event");
    assert_eq!(watched.event(), (uuid("GPU-0"), Happening::Xid { xid: 13, instance: None }));
}

#[test]
fn a_gpu_that_was_lost_from_the_start_is_told_when_it_answers() {
    let lost = Gpu { lost: true, ..Gpu::hopper("GPU-0") };
    let watched = watched(&Scenario::of(lost).with_gpu(Gpu::turing("GPU-1")));
    watched.library.replace(&Scenario::of(Gpu::hopper("GPU-0")).with_gpu(Gpu::turing("GPU-1"))).expect("replaced");
    while watched.until(answers).gpu != uuid("GPU-0") {}
}

#[test]
fn a_driver_that_goes_and_comes_is_every_gpu_lost_and_back() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0")).with_gpu(Gpu::turing("GPU-1"));
    let mut watched = watched(&scenario);
    watched.library.replace(&Scenario { driver_loaded: false, ..scenario.clone() }).expect("replaced");
    let mut gone = [watched.event(), watched.event()];
    gone.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(gone[0].0 == uuid("GPU-0") && gone[1].0 == uuid("GPU-1"), "{gone:?}");
    assert!(gone.iter().all(|(_, what)| is_lost(what)), "{gone:?}");
    assert!(watched.reader.sample(&uuid("GPU-0")).is_err());
    watched.library.replace(&scenario).expect("replaced");
    let mut back = [watched.until(answers).gpu, watched.until(answers).gpu];
    back.sort();
    assert_eq!(back, [uuid("GPU-0"), uuid("GPU-1")]);
    watched.reader.sample(&uuid("GPU-0")).expect("a reading");
}

#[test]
fn a_gpu_whose_figures_fail_again_and_again_is_lost() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0"));
    let watched = watched(&scenario);
    let broken = scenario.with_error("nvmlDeviceGetMemoryInfo_v2", ErrorCode::Unknown);
    watched.library.replace(&broken).expect("replaced");
    assert!(is_lost(&watched.event().1));
}

#[test]
fn a_gpu_that_tells_no_events_is_asked_all_the_same() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0")).with_error("nvmlDeviceRegisterEvents", ErrorCode::NotSupported);
    let watched = watched(&scenario);
    watched.library.happen(0, Change::RecoveryAction(1)).expect("an event");
    let asked = Happening::Answered { recovery: Some(RecoveryAction::GpuReset) };
    assert_eq!(watched.until(|what| *what == asked).gpu, uuid("GPU-0"));
}

#[test]
fn a_library_has_one_watch_at_a_time() {
    let Watched { reader, watch, .. } = watched(&Scenario::of(Gpu::hopper("GPU-0")));
    let again = || XidWatch::start(&reader.share(), Arc::new(Fast::new()), drop);
    assert!(matches!(again(), Err(WatchError::Watched)));
    drop(watch);
    again().expect("the place is free");
}

#[test]
fn what_it_tells_makes_a_gpu_unhealthy_and_healthy_again() {
    let watched = watched(&Scenario::of(Gpu::hopper("GPU-0")));
    let mut health = Health::new(XidPolicy::default(), QUIET);
    let mut change = |watched: &Watched| {
        let change = watched.first(|notice| health.step(&notice).pop());
        change.trouble.map(|trouble| trouble.to_string())
    };
    watched.library.happen(0, Change::Xid(31)).expect("an event");
    watched.library.happen(0, Change::Xid(94)).expect("an event");
    let passes = "XID 94 (contained memory error); healthy again when no further error comes";
    assert_eq!(change(&watched).as_deref(), Some(passes));
    assert_eq!(change(&watched), None, "after a minute of this clock");
    watched.library.happen(0, Change::RecoveryAction(1)).expect("an event");
    assert_eq!(change(&watched).as_deref(), Some("the driver asks for a reset of the GPU; it must be reset"));
    watched.library.happen(0, Change::Xid(48)).expect("an event");
    watched.library.happen(0, Change::RecoveryAction(0)).expect("an event");
    assert_eq!(change(&watched), None);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long the end takes")]
fn it_ends_at_once_and_tells_nothing_more() {
    let Watched { library, notices, watch, .. } = watched(&Scenario::of(Gpu::hopper("GPU-0")));
    let asked = Instant::now();
    drop(watch);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    notices.try_iter().for_each(drop);
    library.happen(0, Change::Xid(79)).expect("an event");
    assert!(notices.recv().is_err(), "whoever told is gone");
}
