//! One GPU's daemon in the keeper's hands. Everything here blocks.

use std::path::{Path, PathBuf};

use cotenant_model::GpuUuid;
use cotenant_model::cause::chain;
use cotenant_mps::resident::Death;
use cotenant_mps::{
    Dialect, Identity, MpsError, Opened, Place, PlaceError, ProgramError, ResidentDaemon, ResidentSettings,
    find_program,
};

use super::protocol::{Answer, DaemonSettings, Kept, Refusal, Refused};

/// Why a daemon is not as wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum SlotError {
    /// The GPU's UUID or the root cannot be used.
    #[error("no folders for GPU {gpu}")]
    Place {
        gpu: GpuUuid,
        #[source]
        source: PlaceError,
    },
    /// There is no control program.
    #[error("MPS cannot be used on this node")]
    Program(#[source] ProgramError),
    /// Another daemon serves clients.
    #[error("a daemon that is not as wanted serves processes {clients:?}: {differences}")]
    Different { clients: Vec<u32>, differences: String },
    /// It serves clients.
    #[error("the daemon serves processes {clients:?}")]
    Busy { clients: Vec<u32> },
    /// No daemon runs.
    #[error("no daemon runs for GPU {gpu}")]
    None { gpu: GpuUuid },
    /// It does not start, stop or answer.
    #[error("the daemon cannot be had as wanted")]
    Mps(#[source] MpsError),
}

impl SlotError {
    pub(super) const fn refusal(&self) -> Refusal {
        match self {
            Self::Different { .. } => Refusal::Different,
            Self::Busy { .. } => Refusal::Busy,
            Self::Place { .. } | Self::Program(_) | Self::None { .. } | Self::Mps(_) => Refusal::Failed,
        }
    }

    pub(super) fn why(&self) -> String {
        chain(self, ": ")
    }
}

/// The daemon of one GPU, or what is known of the last.
#[derive(Debug)]
pub(super) struct Slot {
    root: PathBuf,
    gpu: GpuUuid,
    settings: DaemonSettings,
    daemon: Option<ResidentDaemon>,
    program: PathBuf,
    adopted: bool,
    death: Option<String>,
    /// The daemon whose end somebody waits for.
    followed: Option<Identity>,
}

impl Slot {
    pub(super) fn new(root: &Path, gpu: GpuUuid) -> Self {
        Self {
            root: root.to_owned(),
            gpu,
            settings: DaemonSettings::default(),
            daemon: None,
            program: PathBuf::new(),
            adopted: false,
            death: None,
            followed: None,
        }
    }

    /// The daemon, where one runs or has run.
    pub(super) fn kept(&self) -> Option<Kept> {
        let pid = self.daemon.as_ref().and_then(|daemon| daemon.process()).map(|process| process.pid);
        if pid.is_none() && self.death.is_none() {
            return None;
        }
        let daemon = self.daemon.as_ref();
        Some(Kept {
            gpu: self.gpu.clone(),
            settings: self.settings.clone(),
            pid,
            program: self.program.clone(),
            three: daemon.is_some_and(|daemon| daemon.dialogue().dialect() == Dialect::Three),
            adopted: self.adopted,
            death: self.death.clone(),
            traps: daemon.map(|daemon| daemon.traps().iter().map(ToString::to_string).collect()).unwrap_or_default(),
        })
    }

    pub(super) const fn daemon(&self) -> Option<&ResidentDaemon> {
        self.daemon.as_ref()
    }

    pub(super) const fn gpu(&self) -> &GpuUuid {
        &self.gpu
    }

    /// Whether somebody must begin to wait for the end of the daemon that runs now; says so once for each.
    pub(super) fn is_followed_anew(&mut self) -> bool {
        let process = self.daemon.as_ref().and_then(|daemon| daemon.process()).cloned();
        let anew = process.is_some() && process != self.followed;
        self.followed = process;
        anew
    }

    /// The answer to a wish for the end of every server.
    pub(super) fn answer_to_shut(&mut self) -> Answer {
        self.shut_servers().map_or_else(|error| Refused::new(error.refusal(), error.why()).into(), |()| Answer::Done)
    }

    fn resident_settings(&self, settings: &DaemonSettings) -> Result<ResidentSettings, SlotError> {
        let gpu = self.gpu.clone();
        let place = Place::new(&self.root, gpu.clone()).map_err(|source| SlotError::Place { gpu, source })?;
        let program = settings.program.clone().map_or_else(find_program, Ok).map_err(SlotError::Program)?;
        let mut resident = ResidentSettings::with_program(place, program);
        resident.multi_user = settings.multi_user;
        resident.protocol = settings.protocol;
        resident.limits = settings.limits;
        resident.namespaces.clone_from(&settings.namespaces);
        resident.note = serde_json::to_string(settings).unwrap_or_default();
        Ok(resident)
    }

    /// Sees to it that a daemon with these settings runs. One that runs and is not as wanted is replaced when nobody uses it.
    pub(super) fn ensure(&mut self, settings: &DaemonSettings) -> Result<(), SlotError> {
        self.note_death();
        if let Some(daemon) = &mut self.daemon
            && !self.settings.conflicts_with(settings)
        {
            if self.settings != *settings {
                daemon.set_limits(settings.limits, settings.namespaces.clone()).map_err(SlotError::Mps)?;
            }
            self.settings = settings.clone();
            return Ok(());
        }
        self.daemon = None;
        let resident = self.resident_settings(settings)?;
        match ResidentDaemon::open(&resident).map_err(SlotError::Mps)? {
            Opened::Started(daemon) => self.take(daemon, settings, &resident, false),
            Opened::Adopted(daemon) => self.take(daemon, settings, &resident, true),
            Opened::Different { mut daemon, differences } => {
                let clients = clients(&mut daemon);
                if !clients.is_empty() {
                    let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
                    if let Ok(settings) = serde_json::from_str(daemon.note()) {
                        self.take(daemon, &settings, &resident, true);
                    }
                    return Err(SlotError::Different { clients, differences: differences.join(", ") });
                }
                daemon.stop().map_err(SlotError::Mps)?;
                let daemon = ResidentDaemon::start(&resident).map_err(SlotError::Mps)?;
                self.take(daemon, settings, &resident, false);
            }
        }
        Ok(())
    }

    fn take(&mut self, daemon: ResidentDaemon, settings: &DaemonSettings, resident: &ResidentSettings, adopted: bool) {
        self.daemon = Some(daemon);
        self.settings = settings.clone();
        self.program.clone_from(&resident.program);
        (self.adopted, self.death) = (adopted, None);
    }

    /// Takes over a daemon that runs in the folders, as what it was started as; `false` where none of ours runs.
    pub(super) fn adopt(&mut self) -> Result<bool, SlotError> {
        let gpu = self.gpu.clone();
        let place = Place::new(&self.root, gpu.clone()).map_err(|source| SlotError::Place { gpu, source })?;
        let found = cotenant_mps::resident::find_daemon(&place);
        let note = found.as_ref().and_then(|found| found.note());
        let Some(settings) = note.and_then(|note| serde_json::from_str(note).ok()) else { return Ok(false) };
        self.ensure(&settings).map(|()| true)
    }

    /// Replaces whatever runs; its clients lose their server.
    pub(super) fn restart(&mut self, settings: &DaemonSettings) -> Result<(), SlotError> {
        self.stop()?;
        self.ensure(settings)
    }

    /// Ends the daemon, also one that nobody knew of.
    pub(super) fn stop(&mut self) -> Result<(), SlotError> {
        self.note_death();
        self.death = None;
        if let Some(daemon) = self.daemon.take() {
            return daemon.stop().map_err(SlotError::Mps);
        }
        let Ok(resident) = self.resident_settings(&self.settings.clone()) else { return Ok(()) };
        if cotenant_mps::resident::find_daemon(&resident.place).is_none() {
            return Ok(());
        }
        match ResidentDaemon::open(&resident).map_err(SlotError::Mps)? {
            Opened::Started(daemon) | Opened::Adopted(daemon) | Opened::Different { daemon, .. } => {
                daemon.stop().map_err(SlotError::Mps)
            }
        }
    }

    /// Ends the daemon unless it serves somebody.
    pub(super) fn stop_idle(&mut self) -> Result<(), SlotError> {
        if self.daemon.is_none() {
            self.adopt()?;
        }
        let clients = self.daemon.as_mut().map(clients).unwrap_or_default();
        if clients.is_empty() { self.stop() } else { Err(SlotError::Busy { clients }) }
    }

    /// Ends every server by force.
    fn shut_servers(&mut self) -> Result<(), SlotError> {
        let gpu = self.gpu.clone();
        self.daemon.as_mut().ok_or(SlotError::None { gpu })?.restart_servers().map_err(SlotError::Mps)
    }

    /// How the daemon died, where it has died since the last look.
    pub(super) fn note_death(&mut self) -> Option<String> {
        let death = self.daemon.as_mut()?.death()?;
        self.daemon = None;
        let how = describe(&death);
        self.death = Some(how.clone());
        Some(how)
    }

    /// Removes the folders that containers have mounted.
    pub(super) fn remove(&self) {
        let removed = Place::new(&self.root, self.gpu.clone()).and_then(|place| place.remove());
        if let Err(error) = removed {
            tracing::warn!(gpu = %self.gpu, error = &error as &dyn std::error::Error, "the folders of MPS stay");
        }
    }
}

/// Clients of a daemon; one that does not answer has none that it could serve.
fn clients(daemon: &mut ResidentDaemon) -> Vec<u32> {
    let health = daemon.health().ok();
    health.into_iter().flat_map(|health| health.servers).flat_map(|server| server.clients).collect()
}

fn describe(death: &Death) -> String {
    let how = death.status.map_or_else(|| "it was not a child of this keeper".to_owned(), |status| status.to_string());
    if death.last_words.is_empty() { how } else { format!("{how}; it said: {}", death.last_words) }
}
