//! The figures of one arm.

use cotenant_model::gpu::GpuSample;
use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{ArmRecord, Pass, Price, Run, Window};
use cotenant_model::workload::Tenant;
use cotenant_model::{Arm, MicroUsd, Nanoseconds};

use super::estimate::jain;
use super::reference::{Reference, rate};
use super::tenant::unit;
use super::{ArmSummary, Estimate, TenantSummary};

/// Seconds of an hour.
const HOUR: f64 = 3600.0;

impl ArmSummary {
    /// The figures of an arm's passes; `references` are the tenants' figures alone in file order.
    pub(super) fn of(record: &ArmRecord, run: &Run, references: &[Reference]) -> Self {
        let shared = record.arm != Arm::Solo;
        let arm = Passes { passes: &record.passes, tenants: &run.tenants, references };
        let unit = common_unit(&run.tenants);
        let whole = unit.is_some();
        let tenants: Vec<TenantSummary> = run
            .tenants
            .iter()
            .zip(references)
            .map(|(tenant, reference)| TenantSummary::of(tenant, &arm.windows_of(tenant), reference, shared))
            .collect();
        let best_alone = references.iter().filter_map(|reference| reference.throughput).fold(0.0, f64::max);
        let throughput = if shared && whole { arm.throughputs() } else { Vec::new() };
        let over_best: Vec<f64> = throughput.iter().map(|sum| sum / best_alone).collect();
        let progress = if shared { arm.progress() } else { Vec::new() };
        Self {
            arm: record.arm.clone(),
            refused: record.refused.clone(),
            failures: arm.failures(),
            aggregate: Estimate::of(&progress.iter().map(|each| each.iter().sum()).collect::<Vec<_>>()),
            aggregate_over_best_solo: Estimate::of(&over_best),
            throughput: Estimate::of(&throughput),
            unit,
            jain: Estimate::of(&progress.iter().filter_map(|each| jain(each)).collect::<Vec<_>>()),
            slo_kept: slo_kept(&tenants),
            watts: arm.mean(|sample| sample.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1e3)),
            utilization: arm.mean(|sample| sample.gpu_utilization.map(f64::from)),
            joules_per_unit: if whole { arm.joules_per_unit() } else { None },
            price_per_million: run.settings.price.as_ref().filter(|_| whole).and_then(|price| arm.per_million(price)),
            tenants,
        }
    }

    /// The largest slowdown of any tenant's latency: of its p99 where both sides state one, else of its median.
    pub(super) fn worst_slowdown(&self) -> f64 {
        let latencies = self.tenants.iter().flat_map(|tenant| tenant.latencies.values());
        latencies.filter_map(|latency| latency.slowdown_p99.or(latency.slowdown_p50)).fold(0.0, f64::max)
    }

    /// Whether the arm may be the best: a shared one that ran, in which no tenant failed or is missing and every SLO is
    /// known to be kept.
    pub(super) fn is_eligible(&self, record: &ArmRecord, tenants: &[Tenant]) -> bool {
        let present = |pass: &Pass| tenants.iter().all(|t| pass.windows.iter().any(|w| w.tenant == t.name));
        self.arm != Arm::Solo
            && self.refused.is_none()
            && self.failures.is_empty()
            && record.passes.iter().all(present)
            && self.tenants.iter().flat_map(|tenant| &tenant.verdicts).all(|verdict| verdict.kept == Some(true))
    }
}

/// The passes of an arm with what they are compared with.
struct Passes<'a> {
    passes: &'a [Pass],
    tenants: &'a [Tenant],
    references: &'a [Reference],
}

impl<'a> Passes<'a> {
    fn windows_of(&self, tenant: &Tenant) -> Vec<&'a Window> {
        self.passes.iter().flat_map(|pass| &pass.windows).filter(|window| window.tenant == tenant.name).collect()
    }

    /// Each failure once, in the order they came.
    fn failures(&self) -> Vec<(String, String)> {
        let mut failures = Vec::new();
        for window in self.passes.iter().flat_map(|pass| &pass.windows) {
            let Some(words) = &window.failure else { continue };
            let failure = (window.tenant.clone(), words.clone());
            if !failures.contains(&failure) {
                failures.push(failure);
            }
        }
        failures
    }

    /// The window of a tenant that serves, in one pass, where it counts.
    fn counted(pass: &'a Pass, tenant: &Tenant) -> Option<&'a Window> {
        let window = pass.windows.iter().find(|window| window.tenant == tenant.name)?;
        (window.failure.is_none() && tenant.load.is_some() && unit(tenant) != WorkUnit::None).then_some(window)
    }

    /// Every pass's throughputs over the solo throughputs, one for each tenant that counts; a pass in which one lacks its
    /// reference is left out, as is one in which none counts.
    fn progress(&self) -> Vec<Vec<f64>> {
        let of = |pass: &'a Pass| -> Option<Vec<f64>> {
            let tenants = self.tenants.iter().zip(self.references);
            let counted = tenants.filter_map(|(tenant, alone)| Some((Self::counted(pass, tenant)?, alone)));
            counted.map(|(window, alone)| Some(rate(window)? / alone.throughput?)).collect()
        };
        self.passes.iter().filter_map(of).filter(|progress| !progress.is_empty()).collect()
    }

    /// Every pass's sum of throughputs.
    fn throughputs(&self) -> Vec<f64> {
        let of = |pass: &'a Pass| -> Option<f64> {
            let rates: Vec<f64> = self.tenants.iter().filter_map(|tenant| rate(Self::counted(pass, tenant)?)).collect();
            (!rates.is_empty()).then(|| rates.iter().sum())
        };
        self.passes.iter().filter_map(of).collect()
    }

    /// Units of all tenants in a pass and its length.
    fn work(&self, pass: &'a Pass) -> (f64, Nanoseconds) {
        let windows = self.tenants.iter().filter_map(|tenant| Self::counted(pass, tenant));
        windows.fold((0.0, Nanoseconds(0)), |(units, length), window| {
            (units + window.work.units.max(0.0), length.max(window.length))
        })
    }

    /// The mean over the passes of a telemetry figure's mean over its readings.
    fn mean(&self, figure: impl Fn(&GpuSample) -> Option<f64>) -> Option<Estimate> {
        let of = |pass: &Pass| {
            let readings: Vec<f64> = pass.telemetry.samples.iter().filter_map(|(_, sample)| figure(sample)).collect();
            readings.iter().sum::<f64>() / readings.len() as f64
        };
        Estimate::of(&self.passes.iter().map(of).collect::<Vec<_>>())
    }

    fn joules_per_unit(&self) -> Option<Estimate> {
        let of = |pass: &'a Pass| -> Option<f64> {
            let (units, _) = self.work(pass);
            Some(pass.telemetry.energy_millijoules? as f64 / 1e3 / units)
        };
        Estimate::of(&self.passes.iter().filter_map(of).collect::<Vec<_>>())
    }

    /// Price of a million units: what the GPU cost while the passes ran, over the units they made.
    fn per_million(&self, price: &Price) -> Option<MicroUsd> {
        let (units, seconds) = self
            .passes
            .iter()
            .map(|pass| self.work(pass))
            .fold((0.0, 0.0), |sum, (units, length)| (sum.0 + units, sum.1 + length.seconds()));
        let dollars = price.per_hour.dollars() / HOUR * seconds / units * 1e6;
        dollars.is_finite().then(|| MicroUsd::from_dollars(dollars))
    }
}

/// The unit that every tenant that serves counts; `None` when they differ or none serves.
fn common_unit(tenants: &[Tenant]) -> Option<WorkUnit> {
    let mut units = tenants.iter().filter(|tenant| tenant.load.is_some()).map(unit).filter(|u| *u != WorkUnit::None);
    let first = units.next()?;
    units.all(|unit| unit == first).then_some(first)
}

/// Whether every SLO was kept; a broken one decides, then one that cannot be told.
fn slo_kept(tenants: &[TenantSummary]) -> Option<bool> {
    let kept: Vec<Option<bool>> =
        tenants.iter().flat_map(|tenant| &tenant.verdicts).map(|verdict| verdict.kept).collect();
    if kept.contains(&Some(false)) {
        return Some(false);
    }
    (!kept.is_empty() && kept.iter().all(Option::is_some)).then_some(true)
}
