//! Generates the CRI messages and stubs from `proto/cri.proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    tonic_prost_build::configure()
        .build_server(true)
        // A registry password must not reach a log through a derived Debug.
        .skip_debug(["AuthConfig"])
        .compile_protos(&["proto/cri.proto"], &["proto"])?;
    Ok(())
}
