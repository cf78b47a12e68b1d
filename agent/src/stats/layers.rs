//! What containers have written and what images take: the runtime's figures, asked for at most once in ten seconds,
//! which is how often containerd itself measures.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_agent_core::stats::figures::Room;
use tokio::sync::Mutex;

use super::disks;
use crate::runtime::{FsUsage, Runtime};

const FRESH: Duration = Duration::from_secs(10);

/// The runtime's figures at one time.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// By container.
    pub(super) writable: HashMap<String, FsUsage>,
    /// Where images are.
    pub(super) images: Option<FsUsage>,
    /// The room there.
    pub(super) room: Option<Room>,
}

/// The last figures and when they came.
#[derive(Default)]
pub(super) struct LayerCache(Mutex<Option<(Instant, Arc<Layers>)>>);

impl LayerCache {
    /// Fresh figures. What the runtime does not tell is missing; callers wait for one question together.
    pub(super) async fn get(&self, runtime: &Runtime) -> Arc<Layers> {
        let mut cached = self.0.lock().await;
        if let Some((at, layers)) = &*cached
            && at.elapsed() < FRESH
        {
            return Arc::clone(layers);
        }
        let (writable, images) = tokio::join!(runtime.writable_layers(), runtime.image_fs());
        let images = images.unwrap_or_else(|error| {
            tracing::warn!(%error, "the runtime does not tell what images take");
            None
        });
        let writable = writable.unwrap_or_else(|error| {
            tracing::warn!(%error, "the runtime does not tell what containers have written");
            HashMap::new()
        });
        let room = images
            .as_ref()
            .and_then(|images| disks::room(Path::new(&images.mount_point)));
        let layers = Arc::new(Layers {
            writable,
            images,
            room,
        });
        *cached = Some((Instant::now(), Arc::clone(&layers)));
        layers
    }
}
