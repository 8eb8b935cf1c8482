//! A worker's word to the kernel on which 5-tuples are its own, so that their datagrams arrive here instead of being handed
//! over. Only what passed an authenticated check gets that far: a stranger cannot fill the map.

use std::{io, net::UdpSocket, sync::Arc};

use sluice_frames::Route;
use sluice_io::Steering;

use super::WorkerIndex;
use crate::config::NodeConfig;

/// Steering for these workers' sockets, if there is somebody to steer to and this process may; says so once.
pub(crate) fn steering(config: &NodeConfig, sockets: &[Vec<UdpSocket>]) -> Option<Arc<Steering>> {
    if sockets.len() < 2 || !config.steering {
        return None;
    }
    match Steering::new(sockets) {
        Ok(steering) => {
            tracing::info!("datagrams are steered to the worker they belong to");
            Some(Arc::new(steering))
        }
        Err(reason) => {
            tracing::warn!("datagrams are handed over between workers, at the cost of a copy: {reason}");
            None
        }
    }
}

/// One worker's part in it.
pub(crate) struct Steer {
    steering: Option<Arc<Steering>>,
    worker: WorkerIndex,
}

impl Steer {
    pub(crate) fn new(steering: Option<Arc<Steering>>, worker: usize) -> Steer {
        Steer { steering, worker: worker as WorkerIndex }
    }

    /// The 5-tuple is ours: said at each check (a system call of about a microsecond), so that what was pushed out of the
    /// bounded map comes back. Where it fails, siblings hand over as they do without steering.
    pub(crate) fn own(&self, route: &Route) -> io::Result<()> {
        self.steering.as_ref().map_or(Ok(()), |steering| steering.own(route, self.worker))
    }

    /// It is no longer.
    pub(crate) fn disown(&self, route: &Route) -> io::Result<()> {
        self.steering.as_ref().map_or(Ok(()), |steering| steering.disown(route, self.worker))
    }
}
