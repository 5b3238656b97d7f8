//! The picture as metrics, in the two texts that Prometheus asks for.

use std::fmt;
use std::sync::Arc;

use cotenant_model::sharing::Strategy;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::view::{GpuView, ResourceView, TenantView, View};

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
    /// `text/plain; version=0.0.4`.
    Text,
}

impl Format {
    /// What a client that sends this `Accept` header gets: `OpenMetrics` where it names it, else the older text.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Every metric of a picture.
///
/// # Errors
/// Never for a picture of this program: only where a label or a number cannot be written.
pub fn text(view: &Arc<View>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("cotenant");
    registry.register_collector(Box::new(Shown(Arc::clone(view))));
    let mut written = String::new();
    encode(&mut written, &registry)?;
    Ok(match format {
        Format::OpenMetrics => written,
        Format::Text => older(&written),
    })
}

/// `OpenMetrics` as the text that came before it: counters are declared by the name their samples have, and there is neither a
/// unit nor an end.
fn older(open: &str) -> String {
    let counters: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open.len());
    for line in open.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.contains(&name) => {
                text.extend(["# ", keyword, " ", name, "_total ", rest, "\n"]);
            }
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[derive(Debug)]
struct Shown(Arc<View>);

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A metric with its samples.
struct Metric<'a, T> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: Vec<(Labels<'a>, T)>,
}

impl<T: EncodeMetric> Metric<'_, T> {
    /// Writes it; a metric without samples is left out.
    fn write(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some((_, first)) = self.samples.first() else { return Ok(()) };
        let mut family = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), first.metric_type())?;
        for (labels, sample) in &self.samples {
            sample.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// A gauge of each item that has the figure.
fn gauge<'a, I, T>(
    (name, help, unit): (&'static str, &'static str, Option<Unit>),
    items: &'a [I],
    labels: impl Fn(&'a I) -> Labels<'a>,
    figure: impl Fn(&'a I) -> Option<T>,
) -> Metric<'a, ConstGauge<T>> {
    let samples = items.iter().filter_map(|item| Some((labels(item), ConstGauge::new(figure(item)?)))).collect();
    Metric { name, help, unit, samples }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = &self.0;
        node(view, &mut encoder)?;
        resources(&view.resources, &mut encoder)?;
        gpus(&view.gpus, &mut encoder)?;
        failures(&view.gpus, &mut encoder)?;
        tenants(&view.tenants, &mut encoder)
    }
}

fn node(view: &View, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let driver = view.driver.as_deref().unwrap_or_default();
    let build = vec![("version", view.version.as_str()), ("node", view.node.as_str()), ("driver", driver)];
    let samples = vec![(build, ConstGauge::new(1_i64))];
    Metric { name: "build_info", help: "Version of cotenant and of the driver", unit: None, samples }.write(encoder)?;
    let one = |name, help, value: Option<bool>| Metric {
        name,
        help,
        unit: None,
        samples: value.map(|value| (Labels::new(), ConstGauge::new(i64::from(value)))).into_iter().collect(),
    };
    one("node_ready", "Whether all that is advertised is served", Some(view.is_ready())).write(encoder)?;
    one("node_api_reachable", "Whether the API server answers", view.api).write(encoder)?;
    one("node_keeper_reachable", "Whether the keeper of the MPS daemons answers", view.keeper).write(encoder)?;
    let refused = Some(view.configuration.refused.is_some());
    one(
        "node_configuration_refused",
        "Whether the newest configuration has problems and the one before stays",
        refused,
    )
    .write(encoder)?;
    let waits = i64::try_from(view.configuration.waits_for.len()).unwrap_or(i64::MAX);
    let samples = vec![(Labels::new(), ConstGauge::new(waits))];
    let help = "Holders that an edit of the configuration waits for";
    Metric { name: "node_configuration_waits", help, unit: None, samples }.write(encoder)
}

fn of_resource(one: &ResourceView) -> Labels<'_> {
    vec![("resource", one.name.0.as_str())]
}

fn resources(all: &[ResourceView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let named = |name, help| (name, help, None);
    let devices = named("resource_devices", "Devices of a resource");
    gauge(devices, all, of_resource, |one| Some(i64::from(one.devices))).write(encoder)?;
    let healthy = named("resource_healthy_devices", "Devices of a resource that are healthy");
    gauge(healthy, all, of_resource, |one| Some(i64::from(one.healthy))).write(encoder)?;
    let allocated = named("resource_allocated_devices", "Devices of a resource that a container holds");
    gauge(allocated, all, of_resource, |one| Some(i64::from(one.allocated))).write(encoder)?;
    let registered = named("resource_registered", "Whether the kubelet has the resource");
    gauge(registered, all, of_resource, |one| Some(i64::from(one.unregistered.is_none()))).write(encoder)
}

/// The word of metrics: as dashboards of the field spell it.
const fn sharing(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::TimeSlicing => "timeslice",
        Strategy::Exclusive | Strategy::Mps | Strategy::Mig => strategy.word(),
    }
}

fn of_gpu(one: &GpuView) -> Labels<'_> {
    vec![("gpu_uuid", one.uuid.0.as_str()), ("model", one.name.as_str()), ("sharing", sharing(one.strategy))]
}

fn gpus(all: &[GpuView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let healthy = ("gpu_healthy", "Whether the devices of a GPU are healthy", None);
    gauge(healthy, all, of_gpu, |one| Some(i64::from(one.unhealthy.is_none()))).write(encoder)?;
    let memory = ("gpu_memory_total", "Device memory of a GPU", Some(Unit::Bytes));
    gauge(memory, all, of_gpu, |one| i64::try_from(one.memory.0).ok()).write(encoder)?;
    let used = ("gpu_memory_used", "Device memory of a GPU in use", Some(Unit::Bytes));
    gauge(used, all, of_gpu, |one| i64::try_from(one.memory_used?.0).ok()).write(encoder)?;
    let daemon = ("gpu_mps_daemon_up", "Whether the MPS control daemon of a GPU serves", None);
    gauge(daemon, all, of_gpu, |one| one.daemon.map(i64::from)).write(encoder)?;
    let clients = ("gpu_mps_clients", "Clients of the MPS server of a GPU", None);
    gauge(clients, all, of_gpu, |one| one.clients.map(i64::from)).write(encoder)
}

fn failures(all: &[GpuView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let faults = all.iter().flat_map(|one| {
        one.faults.iter().map(move |(kind, count)| {
            let mut labels = of_gpu(one);
            labels.push(("kind", kind.as_str()));
            (labels, ConstCounter::new(*count))
        })
    });
    let help = "Failures of a GPU since the agent started";
    Metric { name: "gpu_faults", help, unit: None, samples: faults.collect() }.write(encoder)?;
    let recoveries = all.iter().map(|one| (of_gpu(one), ConstCounter::new(one.recoveries))).collect();
    let help = "Times that a GPU became healthy again";
    Metric { name: "gpu_recoveries", help, unit: None, samples: recoveries }.write(encoder)?;
    let seconds = all.iter().map(|one| (of_gpu(one), ConstCounter::new(one.recovery_seconds))).collect();
    let help = "Time from a failure of a GPU until it was healthy again";
    Metric { name: "gpu_recovery", help, unit: Some(Unit::Seconds), samples: seconds }.write(encoder)
}

/// A tenant's name is its container's: what has a share is a container.
fn of_tenant(one: &TenantView) -> Labels<'_> {
    vec![
        ("gpu_uuid", one.gpu.0.as_str()),
        ("tenant", one.container.as_str()),
        ("namespace", one.namespace.as_str()),
        ("pod", one.pod.as_str()),
        ("container", one.container.as_str()),
        ("resource", one.resource.0.as_str()),
        ("class", one.class.as_deref().unwrap_or_default()),
        ("sharing", sharing(one.strategy)),
    ]
}

fn tenants(all: &[TenantView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let memory = ("tenant_memory", "Device memory of a container's processes", Some(Unit::Bytes));
    gauge(memory, all, of_tenant, |one| i64::try_from(one.memory?.0).ok()).write(encoder)?;
    let limit = ("tenant_memory_limit", "Device memory that a container may use", Some(Unit::Bytes));
    gauge(limit, all, of_tenant, |one| i64::try_from(one.share?.memory.0).ok()).write(encoder)?;
    let cap = ("tenant_sm_limit", "Share of the streaming multiprocessors that a container may use", Some(ratio()));
    gauge(cap, all, of_tenant, |one| Some(f64::from(one.share?.percent.get()) / 100.0)).write(encoder)?;
    let busy = ("tenant_sm_utilization", "Share of time that a container's kernels ran", Some(ratio()));
    gauge(busy, all, of_tenant, |one| Some(f64::from(one.sm_utilization?) / 100.0)).write(encoder)?;
    let processes = ("tenant_processes", "Processes of a container on its GPU", None);
    gauge(processes, all, of_tenant, |one| Some(i64::from(one.processes))).write(encoder)?;
    let warnings = ("tenant_warnings", "What is wrong with a container's use of its GPU", None);
    gauge(warnings, all, of_tenant, |one| i64::try_from(one.warnings.len()).ok()).write(encoder)
}

fn ratio() -> Unit {
    Unit::Other("ratio".to_owned())
}
