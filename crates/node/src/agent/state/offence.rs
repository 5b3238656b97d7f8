//! Who breaks GPUs, and how often.
//!
//! Who caused a fault is certain when it was alone on the GPU. When it never is, the faults of a while together may still
//! tell: whoever was there every time, and nobody else was, did it.

use std::collections::BTreeSet;

use cotenant_model::GpuUuid;
use cotenant_model::sharing::config::{Faults, Quarantine, QuarantineAction};
use serde::{Deserialize, Serialize};

use super::event::{Action, Holder, Moment, Note, Subject, Workload};
use super::gpu::Verdict;

/// Workloads remembered at most; the longest without an offence is forgotten first.
const WORKLOADS: usize = 256;
/// Offences of one workload, and faults, remembered at most.
const EVENTS: usize = 64;

/// Faults by what made the pod that caused them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Offences {
    /// What is known for certain.
    records: Vec<Record>,
    /// Faults whose culprit is not known, oldest first.
    unsolved: Vec<Unsolved>,
}

/// What is remembered of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What made the pods.
    pub workload: Workload,
    /// When its pods broke a GPU, in seconds since 1970, oldest first.
    pub offences: Vec<u64>,
    /// Until when it is quarantined, in seconds since 1970; 0 when it is not.
    #[serde(default)]
    pub quarantined_until: u64,
}

/// A fault that somebody caused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unsolved {
    at: u64,
    present: BTreeSet<Workload>,
}

impl Offences {
    /// What is known for certain, by workload.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Counts a fault; a workload is quarantined when it has come to that.
    pub fn count(&mut self, verdict: &Verdict, gpu: &GpuUuid, faults: &Faults, now: Moment) -> Vec<Action> {
        let mut actions = vec![Action::Save];
        let certain = verdict.culprit.as_ref().and_then(|culprit| culprit.holder.as_ref());
        let offender = match certain {
            Some(holder) => {
                push(&mut self.record(&holder.workload).offences, now.unix);
                Some(holder.workload.clone())
            }
            None => self.remember(verdict, now).and_then(|()| self.solve(faults.quarantine.as_ref()?, now)),
        };
        if let (Some(offender), Some(rule)) = (offender, &faults.quarantine) {
            actions.extend(self.judge(&offender, gpu, rule, now));
            let present = verdict.present.iter().filter(|holder| holder.workload == offender);
            let greetings: Vec<Action> = present.flat_map(|holder| self.greet(holder, faults, now)).collect();
            actions.extend(greetings);
        }
        self.forget_the_oldest();
        actions
    }

    /// What is done about a pod on a shared GPU: nothing, unless its workload is quarantined.
    #[must_use]
    pub fn greet(&self, holder: &Holder, faults: &Faults, now: Moment) -> Vec<Action> {
        let record = self.records.iter().find(|record| record.workload == holder.workload);
        let (Some(record), Some(rule)) = (record, &faults.quarantine) else { return Vec::new() };
        if record.quarantined_until <= now.unix {
            return Vec::new();
        }
        let left = record.quarantined_until - now.unix;
        let text =
            format!("{} is quarantined from shared GPUs for {left} s more: its pods broke them", holder.workload);
        let subject = Subject::Pod(holder.pod.clone());
        let mut actions =
            vec![Action::Tell(Note { subject, warning: true, reason: "Quarantined", text: text.clone() })];
        if rule.action == QuarantineAction::Evict {
            actions.push(Action::Evict(holder.pod.clone(), text));
        }
        actions
    }

    fn record(&mut self, workload: &Workload) -> &mut Record {
        let position = self.records.iter().position(|record| record.workload == *workload);
        let position = position.unwrap_or_else(|| {
            let workload = workload.clone();
            self.records.push(Record { workload, offences: Vec::new(), quarantined_until: 0 });
            self.records.len() - 1
        });
        &mut self.records[position]
    }

    /// Keeps who was there; `None` where nobody was in a pod.
    fn remember(&mut self, verdict: &Verdict, now: Moment) -> Option<()> {
        let present: BTreeSet<Workload> = verdict.present.iter().map(|holder| holder.workload.clone()).collect();
        if present.is_empty() {
            return None;
        }
        push(&mut self.unsolved, Unsolved { at: now.unix, present });
        Some(())
    }

    /// The one workload that was there at every one of the latest faults, as many as the rule wants; they are its offences
    /// then. Of these faults each other workload must have missed one, or several would be left.
    fn solve(&mut self, rule: &Quarantine, now: Moment) -> Option<Workload> {
        let wanted = usize::try_from(rule.after).ok()?.max(2);
        let recent = self.unsolved.iter().filter(|fault| is_recent(fault.at, rule, now));
        let latest: Vec<&Unsolved> = recent.rev().take(wanted).collect();
        let (first, others) = latest.split_first().filter(|_| latest.len() == wanted)?;
        let suspects: Vec<&Workload> =
            first.present.iter().filter(|one| others.iter().all(|fault| fault.present.contains(one))).collect();
        let [only] = suspects[..] else { return None };
        let (only, times): (Workload, Vec<u64>) = (only.clone(), latest.iter().rev().map(|fault| fault.at).collect());
        let record = self.record(&only);
        times.into_iter().for_each(|at| push(&mut record.offences, at));
        self.unsolved.clear();
        Some(only)
    }

    fn judge(&mut self, workload: &Workload, gpu: &GpuUuid, rule: &Quarantine, now: Moment) -> Option<Action> {
        let record = self.record(workload);
        let recent = record.offences.iter().filter(|at| is_recent(**at, rule, now)).count();
        if recent < usize::try_from(rule.after).unwrap_or(usize::MAX) {
            return None;
        }
        let was = record.quarantined_until > now.unix;
        record.quarantined_until = now.unix.saturating_add(rule.lasts.0 / 1_000_000_000);
        let text = format!(
            "{workload} caused {recent} faults on shared GPUs within {}, the last on {gpu}: quarantined for {}",
            rule.within, rule.lasts
        );
        let note = Note { subject: Subject::Node, warning: true, reason: "Quarantined", text };
        (!was).then_some(Action::Tell(note))
    }

    fn forget_the_oldest(&mut self) {
        let last = |record: &Record| record.offences.last().copied().unwrap_or(0).max(record.quarantined_until);
        while self.records.len() > WORKLOADS {
            let oldest = self.records.iter().enumerate().min_by_key(|(_, record)| last(record)).map(|(index, _)| index);
            if let Some(oldest) = oldest {
                self.records.remove(oldest);
            }
        }
    }
}

fn is_recent(at: u64, rule: &Quarantine, now: Moment) -> bool {
    at.saturating_add(rule.within.0 / 1_000_000_000) >= now.unix
}

fn push<T>(list: &mut Vec<T>, one: T) {
    list.push(one);
    if list.len() > EVENTS {
        list.remove(0);
    }
}
