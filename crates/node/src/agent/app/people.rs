//! Whose a process is: from its cgroup to the pod, and from the pod to what users deployed.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cotenant_cluster::Pods;
use cotenant_kubelet::pod_resources::Held;
use cotenant_model::sharing::DeviceId;
use cotenant_mps::Identity;

use crate::agent::state::event::{Client, Holder, Pod, Workload};
use crate::usage::cgroup;

/// Processes that are remembered after they are gone: a log names a culprit when it has died already.
const REMEMBERED: usize = 512;

/// Knows whose processes are.
#[derive(Debug, Clone)]
pub(super) struct People {
    proc: PathBuf,
    pods: Option<Pods>,
    seen: Arc<Mutex<VecDeque<(u32, Holder)>>>,
}

impl People {
    pub(super) fn new(proc: PathBuf, pods: Option<Pods>) -> Self {
        Self { proc, pods, seen: Arc::default() }
    }

    /// The container of a process, of one that has died as well when it was asked for before.
    pub(super) fn holder(&self, pid: u32) -> Option<Holder> {
        let text = fs::read_to_string(self.proc.join(pid.to_string()).join("cgroup"));
        let found = text.ok().and_then(|text| self.container(&cgroup::parse(&text)?));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(holder) => {
                seen.retain(|(known, _)| *known != pid);
                seen.push_back((pid, holder.clone()));
                if seen.len() > REMEMBERED {
                    seen.pop_front();
                }
                Some(holder)
            }
            None => seen.iter().rev().find(|(known, _)| *known == pid).map(|(_, holder)| holder.clone()),
        }
    }

    fn container(&self, reference: &cgroup::ContainerReference) -> Option<Holder> {
        let pods = self.pods.as_ref()?;
        let by_id = reference.container_id.as_deref().and_then(|id| pods.by_container(id));
        let (pod, container) = match by_id {
            Some(known) => known,
            // The container is newer than what the API server has told.
            None => (pods.by_uid(reference.pod_uid.as_deref()?)?, String::new()),
        };
        Some(Holder {
            pod: Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: Some(pod.uid.clone()) },
            container,
            workload: Workload(pod.workload()),
        })
    }

    /// A client of a server, with its container; `None` when it is gone.
    pub(super) fn client(&self, pid: u32, server: Option<u32>) -> Option<Client> {
        Some(Client { process: Identity::of(pid)?, server, holder: self.holder(pid) })
    }

    /// Who holds which device, from the kubelet's list. What is deployed is known once the API server has told of the pod.
    pub(super) fn holders(&self, list: Vec<Held>) -> BTreeMap<DeviceId, Holder> {
        let mut holders = BTreeMap::new();
        for held in list {
            let pod = self.pods.as_ref().and_then(|pods| pods.by_name(&held.namespace, &held.pod));
            let workload =
                pod.as_ref().map_or_else(|| format!("Pod/{}/{}", held.namespace, held.pod), |pod| pod.workload());
            let holder = Holder {
                pod: Pod { namespace: held.namespace, name: held.pod, uid: pod.map(|pod| pod.uid.clone()) },
                container: held.container,
                workload: Workload(workload),
            };
            holders.extend(held.devices.into_iter().map(|device| (device, holder.clone())));
        }
        holders
    }
}
