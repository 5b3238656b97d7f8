//! Watches this host's GPUs for some seconds: prints each notice, each change of health, and in the end what calls cost.
//!
//! `cargo run -p cotenant-gpu --example watch -- 10`; `COTENANT_NVML` names another library.

use std::io::{self, Write as _};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cotenant_gpu::{DISABLE_VARIABLE, ENABLE_VARIABLE, Health, Nvml, QUIET, XidPolicy, XidWatch};
use cotenant_model::{Clock, GpuReader as _, Nanoseconds};

struct SinceStart(Instant);

impl SinceStart {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the example hands out")]
    fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SinceStart {
    fn monotonic(&self) -> Nanoseconds {
        Nanoseconds(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        std::thread::sleep(Duration::from_nanos(instant.0.saturating_sub(self.monotonic().0)));
    }
}

fn main() -> anyhow::Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let clock = Arc::new(SinceStart::new());
    let mut reader = Nvml::open()?;
    let variable = |name| std::env::var(name).ok();
    let (policy, invalid) =
        XidPolicy::parse(variable(DISABLE_VARIABLE).as_deref(), variable(ENABLE_VARIABLE).as_deref());
    for entry in invalid {
        writeln!(io::stdout(), "{entry}")?;
    }
    let (sender, notices) = mpsc::channel();
    let watch = XidWatch::start(&reader, clock.clone(), move |notice| drop(sender.send(notice)))?;
    let mut health = Health::new(policy, QUIET);
    let end = Nanoseconds(seconds * 1_000_000_000);
    while let Some(left) = end.0.checked_sub(clock.monotonic().0) {
        let Ok(notice) = notices.recv_timeout(Duration::from_nanos(left)) else { break };
        let at = Duration::from_nanos(notice.at.0);
        writeln!(io::stdout(), "{at:?} {}: {:?}", notice.gpu, notice.what)?;
        for change in health.step(&notice) {
            let trouble = change.trouble.map_or_else(|| "healthy".to_owned(), |trouble| trouble.to_string());
            writeln!(io::stdout(), "  {:?}: {trouble}", change.place)?;
        }
    }
    cost(&mut reader, &clock)?;
    drop(watch);
    Ok(())
}

/// The median time of the calls that an agent makes every second or so.
fn cost(reader: &mut Nvml, clock: &SinceStart) -> anyhow::Result<()> {
    for gpu in reader.gpus()? {
        let mut median = |call: &mut dyn FnMut(&mut Nvml) -> anyhow::Result<()>| -> anyhow::Result<Duration> {
            let mut times = Vec::new();
            for _ in 0..51 {
                let start = clock.monotonic();
                call(reader)?;
                times.push(clock.monotonic().0 - start.0);
            }
            times.sort_unstable();
            Ok(Duration::from_nanos(times[times.len() / 2]))
        };
        let processes = median(&mut |reader| Ok(reader.processes(&gpu.uuid).map(drop)?))?;
        let sample = median(&mut |reader| Ok(reader.sample(&gpu.uuid).map(drop)?))?;
        let inventory = median(&mut |reader| Ok(reader.gpus().map(drop)?))?;
        writeln!(io::stdout(), "{}: processes {processes:?}, sample {sample:?}, inventory {inventory:?}", gpu.uuid)?;
    }
    Ok(())
}
