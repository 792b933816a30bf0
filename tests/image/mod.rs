//! Container images made without a container engine.
//!
//! An archive written here is at once an OCI image layout (`oci-layout`, `index.json`, `blobs/`) and what `docker save`
//! writes (`manifest.json`), so `ctr images import`, `docker load` and `kind load image-archive` all take it. The same
//! input gives the same bytes: entries are sorted, owned by root and dated 1970.

mod layer;
pub mod pika;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

pub use layer::Layer;

use crate::programs::hexadecimal;

/// Who the processes of our images are: nobody that exists on the machine.
pub const USER: u32 = 65532;

/// An image of one layer.
#[derive(Debug)]
pub struct Image {
    /// Repository and tag, such as `warrenmq/broker:0.1.0`.
    pub name: String,
    /// Which processors run it.
    pub architecture: Architecture,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// What is said about the image, such as `org.opencontainers.image.licenses`.
    pub labels: Vec<(String, String)>,
    /// The files.
    pub layer: Layer,
}

/// A processor architecture, by the name Go and OCI give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// That of this machine.
    ///
    /// # Errors
    /// It is neither of the two.
    pub fn host() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("images are made for x86_64 and aarch64, and this machine is {other}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl Image {
    /// An image FROM scratch with one static program, `/<file name of binary>`, that runs as [`USER`].
    ///
    /// # Errors
    /// The binary cannot be read, or needs a loader and libraries that an empty image does not have.
    pub fn of_binary(name: &str, binary: &Path, architecture: Architecture) -> Result<Self> {
        let program = std::fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
        if needs_loader(&program).with_context(|| format!("{} is no 64-bit ELF program", binary.display()))? {
            bail!(
                "{} is dynamically linked and cannot run in an empty image: build it with RUSTFLAGS='-C target-feature=+crt-static' \
                 and --target",
                binary.display(),
            );
        }
        let file_name = binary.file_name().and_then(|name| name.to_str()).context("a binary has a name")?;
        let mut layer = Layer::default();
        layer.file(file_name, 0o755, program);
        layer.user(USER);
        Ok(Self {
            name: name.to_owned(),
            architecture,
            entrypoint: vec![format!("/{file_name}")],
            env: Vec::new(),
            labels: Vec::new(),
            layer,
        })
    }

    /// Writes the archive to `path` and returns the digest of the image, `sha256:…`.
    ///
    /// # Errors
    /// A file of the layer cannot be read or the archive not written.
    pub fn write(&self, path: &Path) -> Result<String> {
        let layer = Blob::new(self.layer.to_tar()?);
        let config = Blob::json(&json!({
            "architecture": self.architecture.name(),
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Entrypoint": self.entrypoint,
                "Env": self.env,
                "Labels": self.labels.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
        }))?;
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }))?;
        let unfinished = path.with_extension("unfinished");
        self.write_archive(&unfinished, &[layer, config, manifest])
            .with_context(|| format!("write the image {}", unfinished.display()))
            .and_then(|digest| {
                std::fs::rename(&unfinished, path).with_context(|| format!("write {}", path.display()))?;
                Ok(digest)
            })
    }

    fn write_archive(&self, path: &Path, blobs: &[Blob; 3]) -> Result<String> {
        let [layer, config, manifest] = blobs;
        let mut entry = manifest.descriptor(MANIFEST);
        entry["platform"] = json!({"architecture": self.architecture.name(), "os": "linux"});
        entry["annotations"] = json!({
            "io.containerd.image.name": full_name(&self.name),
            "org.opencontainers.image.ref.name": tag(&self.name)?,
        });
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
        let docker = json!([{"Config": config.path(), "RepoTags": [self.name], "Layers": [layer.path()]}]);

        let mut archive = Layer::default();
        archive.file("oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes());
        archive.file("index.json", 0o644, index.to_string().into_bytes());
        archive.file("manifest.json", 0o644, docker.to_string().into_bytes());
        for blob in blobs {
            archive.file(&blob.path(), 0o644, blob.bytes.clone());
        }
        archive.write_tar(&mut File::create(path)?)?;
        Ok(manifest.digest())
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A part of an image, found by its digest.
struct Blob {
    bytes: Vec<u8>,
    sha256: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let sha256 = hexadecimal(&Sha256::digest(&bytes));
        Self { bytes, sha256 }
    }

    fn json(value: &serde_json::Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.sha256)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.sha256)
    }

    fn descriptor(&self, media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// The name with its registry: Docker Hub where none is given, as Docker and Kubernetes read it.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

fn tag(name: &str) -> Result<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let (_, tag) =
        last.split_once(':').with_context(|| format!("the image name {name:?} has no tag, such as :0.1.0"))?;
    Ok(tag)
}

/// Whether an ELF program names an interpreter (a `PT_INTERP` segment). None if `program` is not 64-bit little-endian ELF.
fn needs_loader(program: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |offset: usize, size: usize| {
        let bytes = program.get(offset..offset.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for index in 0..count {
        let segment = usize::try_from(table.checked_add(index * size)?).ok()?;
        if number(segment, 4)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header of a program with one segment of this kind.
    fn program(segment: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[0x20], bytes[0x36], bytes[0x38], bytes[64]) = (64, 56, 1, segment);
        bytes
    }

    fn folder(test: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("warren-image-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let folder = folder("same");
        let binary = folder.join("tool");
        std::fs::write(&binary, program(1)).unwrap();
        let write = |file: &str| {
            let path = folder.join(file);
            let image = Image::of_binary("example/tool:1", &binary, Architecture::Amd64).unwrap();
            (image.write(&path).unwrap(), std::fs::read(&path).unwrap())
        };
        let (first, second) = (write("first.tar"), write("second.tar"));
        assert!(first == second);
        std::fs::write(&binary, [program(1), vec![0]].concat()).unwrap();
        assert_ne!(write("third.tar").0, first.0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn every_digest_an_archive_names_is_in_it() {
        let folder = folder("digests");
        let binary = folder.join("tool");
        std::fs::write(&binary, program(1)).unwrap();
        let path = folder.join("tool.tar");
        Image::of_binary("example/tool:1", &binary, Architecture::Arm64).unwrap().write(&path).unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(File::open(&path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let json = |file: &str| -> serde_json::Value { serde_json::from_slice(&files[file]).unwrap() };
        let blob = |descriptor: &serde_json::Value| {
            let path = format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
            assert_eq!(Some(files[&path].len() as u64), descriptor["size"].as_u64());
            assert_eq!(Blob::new(files[&path].clone()).path(), path);
            path
        };
        let index = json("index.json");
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "docker.io/example/tool:1");
        let manifest = json(&blob(&index["manifests"][0]));
        let (config, layer) = (blob(&manifest["config"]), blob(&manifest["layers"][0]));
        let expected = json!([{"Config": config, "RepoTags": ["example/tool:1"], "Layers": [layer]}]);
        assert_eq!(json("manifest.json"), expected);
        assert_eq!(json(&config)["config"]["User"], "65532:65532");
        assert_eq!(json(&config)["config"]["Entrypoint"], json!(["/tool"]));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_program_that_needs_a_loader_is_refused() {
        assert_eq!(needs_loader(&program(1)), Some(false));
        assert_eq!(needs_loader(&program(3)), Some(true));
        assert_eq!(needs_loader(&program(3)[..80]), Some(true));
        assert_eq!(needs_loader(&program(3)[..60]), None);
        assert_eq!(needs_loader(b"#!/bin/sh\n"), None);
        let this = std::env::current_exe().unwrap();
        let error = Image::of_binary("example/tool:1", &this, Architecture::Amd64).unwrap_err().to_string();
        assert!(error.contains("dynamically linked"), "{error}");
    }

    #[test]
    fn a_name_without_registry_is_docker_hubs() {
        assert_eq!(full_name("warrenmq/broker:1"), "docker.io/warrenmq/broker:1");
        assert_eq!(full_name("broker:1"), "docker.io/library/broker:1");
        assert_eq!(full_name("ghcr.io/warrenmq/broker:1"), "ghcr.io/warrenmq/broker:1");
        assert_eq!(full_name("localhost:5000/broker:1"), "localhost:5000/broker:1");
        assert!(tag("localhost:5000/broker").is_err());
    }
}
