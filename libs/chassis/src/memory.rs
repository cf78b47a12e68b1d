//! Memory that is not needed any more.

/// Gives memory that was freed back to the system, for after work that used much more than is kept: the allocator keeps it for
/// the next time.
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
