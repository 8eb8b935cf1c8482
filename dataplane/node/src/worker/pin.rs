//! A worker stays on its core, so that its memory stays in that core's caches.

/// Pins the calling thread to the `index`-th core this process may use; false where that is not permitted, which costs
/// speed and nothing else.
pub(crate) fn pin(index: usize) -> bool {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.get(index).is_some_and(|core| core_affinity::set_for_current(*core))
}
