//! Memory that is not needed any more.

/// Gives freed memory back to the system: after the first lists and after a take-over much more was used than is kept.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the declaration is that of malloc_trim(3), which may be called at any time.
        #[allow(unsafe_code)]
        unsafe extern "C" {
            safe fn malloc_trim(keep_bytes: usize) -> core::ffi::c_int;
        }
        malloc_trim(0);
    }
}
