//! The sampler's thread over the simulated library, on the real monotonic clock.
#![expect(clippy::expect_used, reason = "a test's helper may fail the test")]

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cotenant_gpu::{EnergySource, Nvml, Sampler, SamplerError};
use cotenant_model::gpu::{Driver, GpuProcess, GpuSample, ProcessList};
use cotenant_model::{Clock, GpuReader, GpuUuid, Nanoseconds};
use cotenant_testkit::nvml::{Gpu, Library, Process, Scenario};

const MS: u64 = 1_000_000;
const INTERVAL: Nanoseconds = Nanoseconds(50 * MS);

struct Monotonic(Instant);

impl Monotonic {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the test hands out")]
    fn shared() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for Monotonic {
    fn monotonic(&self) -> Nanoseconds {
        Nanoseconds(u64::try_from(self.0.elapsed().as_nanos()).expect("not that long"))
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        std::thread::sleep(Duration::from_nanos(instant.0.saturating_sub(self.monotonic().0)));
    }
}

fn uuid() -> GpuUuid {
    GpuUuid("GPU-0".to_owned())
}

fn sampling(gpu: Gpu) -> (Library, Arc<Monotonic>, Sampler) {
    let library = Scenario::of(gpu).install().expect("the simulated library");
    let clock = Monotonic::shared();
    let reader = Nvml::load(library.path()).expect("a reader");
    let sampler = Sampler::start(reader, uuid(), clock.clone(), INTERVAL).expect("a thread");
    (library, clock, sampler)
}

/// A window of the next so many milliseconds.
fn ahead(clock: &Monotonic, milliseconds: u64) -> (Nanoseconds, Nanoseconds) {
    let start = clock.monotonic().0 + 10 * MS;
    (Nanoseconds(start), Nanoseconds(start + milliseconds * MS))
}

#[test]
fn a_window_is_told_its_readings_energy_and_processes() {
    let gpu = Gpu::hopper("GPU-0").with_process(Process::mps_client(30, 500));
    let (_library, clock, sampler) = sampling(gpu);
    let (start, end) = ahead(&clock, 400);
    let observation = sampler.watch(start, end).expect("announced").finish().expect("answered");
    assert!(clock.monotonic() >= end, "the answer waits for the window's end");
    let telemetry = &observation.telemetry;
    assert!(telemetry.samples.len() >= 2, "{} readings", telemetry.samples.len());
    assert!(telemetry.samples.iter().all(|(at, _)| at.0 <= 400 * MS));
    // 300 W for 400 ms. Readings are scaled to the window, so what a busy machine adds is the time between reading the
    // clock and reading the counter.
    let energy = telemetry.energy_millijoules.expect("energy");
    assert!((60_000..=180_000).contains(&energy), "{energy} mJ");
    assert_eq!(observation.energy_source, Some(EnergySource::Counter));
    let processes: Vec<_> = telemetry.processes.iter().map(|process| (process.pid, process.list)).collect();
    assert_eq!(processes, [(30, ProcessList::MpsClient)]);
    assert_eq!(observation.failures, []);
}

#[test]
fn a_window_that_is_over_gets_what_was_read_anyway() {
    let (_library, clock, sampler) = sampling(Gpu::hopper("GPU-0").with_process(Process::compute(1, 1)));
    let (start, end) = ahead(&clock, 150);
    sampler.watch(start, end).expect("announced").finish().expect("answered");
    let past = sampler.watch(start, end).expect("announced").finish().expect("answered at once");
    assert!(past.telemetry.samples.len() >= 2 && past.telemetry.energy_millijoules.is_some());
    assert_eq!(past.telemetry.processes, []);
}

#[test]
fn a_gpu_lost_in_the_middle_is_told_and_its_earlier_readings_are_kept() {
    let (library, clock, sampler) = sampling(Gpu::hopper("GPU-0"));
    let (start, end) = ahead(&clock, 600);
    let watch = sampler.watch(start, end).expect("announced");
    clock.sleep_until(Nanoseconds(start.0 + 100 * MS));
    library.replace(&Scenario::of(Gpu { lost: true, ..Gpu::hopper("GPU-0") })).expect("replaced");
    let observation = watch.finish().expect("answered");
    assert!(!observation.telemetry.samples.is_empty());
    assert!(observation.telemetry.gap > Some(Nanoseconds(2 * INTERVAL.0)), "{:?}", observation.telemetry.gap);
    assert_eq!(observation.telemetry.energy_millijoules, None, "half a window is not scaled to a whole one");
    let [failure] = observation.failures.as_slice() else { panic!("{:?}", observation.failures) };
    assert!(failure.message.contains("GPU-0 is lost") && failure.count > 1, "{failure:?}");
    assert!(observation.notes().iter().any(|note| note.contains("fell off the bus")), "{:?}", observation.notes());
}

#[test]
fn a_gpu_without_counter_has_its_power_integrated() {
    let (_library, clock, sampler) = sampling(Gpu { energy_millijoules: None, ..Gpu::hopper("GPU-0") });
    let (start, end) = ahead(&clock, 100);
    let observation = sampler.watch(start, end).expect("announced").finish().expect("answered");
    // A constant 300 W for 100 ms, whenever the readings were.
    assert_eq!(observation.telemetry.energy_millijoules, Some(30_000));
    assert_eq!(observation.energy_source, Some(EnergySource::PowerIntegral));
}

#[test]
fn an_empty_window_is_refused_and_an_open_one_ends_with_the_sampler() {
    let (_library, clock, sampler) = sampling(Gpu::bare("GPU-0"));
    let now = clock.monotonic();
    assert!(matches!(sampler.watch(now, now), Err(SamplerError::EmptyWindow { .. })));
    let watch = sampler.watch(now, Nanoseconds(now.0 + 3_600_000 * MS)).expect("announced");
    drop(sampler);
    assert!(matches!(watch.finish(), Err(SamplerError::Ended)));
    assert!(clock.monotonic().0 - now.0 < 60_000 * MS, "dropping does not wait for the window");
}

/// A driver whose call takes as long as the test wants.
struct Stuck {
    entered: mpsc::Sender<()>,
    released: mpsc::Receiver<()>,
}

impl GpuReader for Stuck {
    type Error = std::convert::Infallible;

    fn gpus(&self) -> Result<Vec<cotenant_model::gpu::Gpu>, Self::Error> {
        Ok(Vec::new())
    }

    fn driver(&self) -> Result<Driver, Self::Error> {
        Ok(Driver { version: String::new(), cuda: None })
    }

    fn sample(&mut self, _gpu: &GpuUuid) -> Result<GpuSample, Self::Error> {
        // The ends of both channels are gone when the test is over.
        self.entered.send(()).unwrap_or(());
        self.released.recv().unwrap_or(());
        Ok(GpuSample::default())
    }

    fn processes(&mut self, _gpu: &GpuUuid) -> Result<Vec<GpuProcess>, Self::Error> {
        Ok(Vec::new())
    }
}

#[test]
fn a_driver_that_hangs_does_not_hang_the_one_who_stops_sampling() {
    let ((entered, entry), (release, released)) = (mpsc::channel(), mpsc::channel());
    let sampler = Sampler::start(Stuck { entered, released }, uuid(), Monotonic::shared(), INTERVAL).expect("a thread");
    entry.recv().expect("the call is under way");
    drop(sampler);
    drop(release);
}
