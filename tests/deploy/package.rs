//! The package: what is in it, what is refused, and that it runs. On x86-64 Linux only, where it is built.

use std::{
    env, fs,
    io::Cursor,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use packager::{Linkage, Package, PackageError};
use tempfile::TempDir;
use zip::{CompressionMethod, DateTime, System, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::root;

/// A small program that is linked as the handler is.
fn static_program(folder: &TempDir) -> PathBuf {
    compile(folder, "-Ctarget-feature=+crt-static")
}

/// A small program that needs a C library.
fn dynamic_program() -> Vec<u8> {
    fs::read(compile(&tempfile::tempdir().unwrap(), "-Ctarget-feature=-crt-static")).unwrap()
}

fn compile(folder: &TempDir, flag: &str) -> PathBuf {
    let (source, program) = (folder.path().join("hello.rs"), folder.path().join("hello"));
    fs::write(&source, r#"fn main() { println!("hello") }"#).unwrap();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args([flag, "-Cstrip=symbols", "-o"]).arg(&program).arg(&source);
    assert!(command.status().unwrap().success());
    program
}

/// Writes `new` over each `old`, which is as long.
fn patch(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let places: Vec<_> = bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old).collect();
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    for place in places {
        bytes[place..place + new.len()].copy_from_slice(new);
    }
}

/// Everything in the package but the handler.
const FILES: [&str; 5] = [
    "LICENSE",
    "THIRD-PARTY-NOTICES.txt",
    "host.json",
    "queue_with_idempotency/function.json",
    "scheduled_with_retry/function.json",
];

/// A copy of the app, with a change to `host.json`.
fn app(change: impl Fn(String) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        let target = folder.path().join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, change(fs::read_to_string(root().join(name)).unwrap())).unwrap();
    }
    folder
}

#[track_caller]
fn check_refused(program: &[u8], expected: &str) {
    let error = Linkage::of(program).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_package_has_the_app_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let program = static_program(&folder);
    let zip = Package::of(root(), &program).unwrap().to_zip().unwrap();
    let mut archive = ZipArchive::new(Cursor::new(&zip)).unwrap();
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index).unwrap();
        assert_eq!(file.system(), System::Unix, "Core Tools and Azure heed the mode of no other");
        assert_eq!(file.last_modified(), Some(DateTime::DEFAULT));
        assert_eq!(file.compression(), CompressionMethod::Deflated);
        entries.push((file.name().unwrap().into_owned(), file.unix_mode().unwrap()));
    }
    let mut expected = FILES.map(|name| (name.to_owned(), 0o100_644)).to_vec();
    expected.push(("handler".to_owned(), 0o100_755));
    expected.sort();
    assert_eq!(entries, expected);
    let host: serde_json::Value = serde_json::from_slice(&fs::read(root().join("host.json")).unwrap()).unwrap();
    assert_eq!(host["customHandler"]["description"]["defaultExecutablePath"], "handler");
}

#[test]
fn the_same_files_give_the_same_bytes_wherever_and_whenever() {
    let folder = tempfile::tempdir().unwrap();
    let program = static_program(&folder);
    let copy = app(|text| text);
    fs::set_permissions(copy.path().join("host.json"), fs::Permissions::from_mode(0o600)).unwrap();
    let here = Package::of(root(), &program).unwrap();
    let there = Package::of(copy.path(), &program).unwrap();
    assert_eq!(here.to_zip().unwrap(), there.to_zip().unwrap());
    let changed = app(|text| text.replace("00:05:00", "00:06:00"));
    let changed = Package::of(changed.path(), &program).unwrap();
    assert_ne!(here.to_zip().unwrap(), changed.to_zip().unwrap());
}

#[test]
fn what_is_unpacked_is_what_was_packed_and_can_be_run() {
    let folder = tempfile::tempdir().unwrap();
    let package = Package::of(root(), &static_program(&folder)).unwrap();
    let read_back = Package::from_zip(&package.to_zip().unwrap()).unwrap();
    assert_eq!(read_back, package);
    let target = folder.path().join("unpacked");
    read_back.unpack(&target).unwrap();
    let output = Command::new(target.join("handler")).output().unwrap();
    assert_eq!(output.stdout, b"hello\n");
    let host_json = target.join("host.json");
    assert_eq!(fs::read(&host_json).unwrap(), fs::read(root().join("host.json")).unwrap());
    assert_eq!(fs::metadata(host_json).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_program_that_may_miss_its_libraries_is_refused() {
    let mut old = dynamic_program();
    for newer in 29..60 {
        patch(&mut old, format!("\0GLIBC_2.{newer}\0").as_bytes(), b"\0GLIBC_2.28\0");
    }
    assert_eq!(Linkage::of(&old).unwrap().to_string(), "needs glibc 2.28");
    let mut newer = old.clone();
    patch(&mut newer, b"\0GLIBC_2.28\0", b"\0GLIBC_2.29\0");
    patch(&mut newer, b"\0GLIBC_2.2.5\0", b"\0GLIBC_2.29\0\0");
    check_refused(&newer, "needs glibc 2.29");
    let mut other = old;
    patch(&mut other, b"\0libc.so.6\0", b"\0libz.so.1\0");
    check_refused(&other, "needs the library libz.so.1");
}

#[test]
fn a_program_for_another_machine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = fs::read(static_program(&folder)).unwrap();
    assert_eq!(Linkage::of(&program).unwrap().to_string(), "linked statically");
    // The machine is the number at 18, the type the one at 16.
    program[18] = 183;
    check_refused(&program, "not for x86-64");
    program[18] = 62;
    program[16] = 1;
    check_refused(&program, "not a program");
    check_refused(b"\xcf\xfa\xed\xfe a program for macOS", "no 64-bit ELF file");
    check_refused(b"MZ a program for Windows", "no 64-bit ELF file");
    check_refused(b"", "no 64-bit ELF file");
}

#[test]
fn an_app_that_the_host_would_not_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = static_program(&folder);
    let refusal = |root: &Path, program: &Path| {
        let error = Package::of(root, program).unwrap_err();
        format!("{:#}", anyhow::Error::from(error))
    };
    let renamed = app(|text| text.replace("\"handler\"", "\"./handler\""));
    let renamed = refusal(renamed.path(), &program);
    assert!(renamed.contains("defaultExecutablePath in host.json is \"./handler\""), "{renamed}");
    let broken = app(|text| text.replace("queueTrigger", "queTrigger"));
    let broken = refusal(broken.path(), &program);
    assert!(broken.contains("queue_with_idempotency/function.json"), "{broken}");
    let missing = refusal(root(), Path::new("no-such-handler"));
    assert!(missing.contains("no-such-handler"), "{missing}");
}

#[test]
fn an_archive_that_reaches_outside_its_folder_is_refused() {
    for name in ["../handler", "/etc/passwd", "a/../../b", "a\\..\\b"] {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        let error = Package::from_zip(&zip.finish().unwrap().into_inner()).unwrap_err();
        assert!(matches!(error, PackageError::Outside(_)), "{name}: {error}");
    }
    assert!(matches!(Package::from_zip(b"PK").unwrap_err(), PackageError::Archive(_)));
}

/// The whole way: built as it is released, packed twice into the same bytes, read back, unpacked, and run by the local
/// host. That two folders give the same bytes too follows from the flags that keep paths out; it costs a second build.
#[test]
#[ignore = "builds the handler as it is released, which takes minutes; the gate runs it"]
fn the_real_package_is_repeatable_and_runs_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let zips = ["one.zip", "two.zip"].map(|name| folder.path().join(name));
    for zip in &zips {
        run(&["package-app", "--output", zip.to_str().unwrap()]);
    }
    let [one, two] = zips.each_ref().map(|zip| fs::read(zip).unwrap());
    assert_eq!(one, two);
    let package = Package::from_zip(&one).unwrap();
    let handler = package.entries().iter().find(|entry| entry.name == "handler").unwrap();
    assert_eq!(Linkage::of(&handler.content).unwrap().to_string(), "linked statically");
    check_paths(&handler.content);
    run(&["demo", "--package", zips[0].to_str().unwrap()]);
}

/// The other thing that is released: on a machine without Rust and the sources, where nothing is set.
#[test]
#[ignore = "builds the tool as it is released, which takes minutes; the gate runs it"]
fn the_tool_of_the_operator_is_one_program_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("ops");
    run(&["package-app", "--ops", "--output", tool.to_str().unwrap()]);
    let content = fs::read(&tool).unwrap();
    assert_eq!(Linkage::of(&content).unwrap().to_string(), "linked statically");
    check_paths(&content);
    // Nothing listens there; what has to be read before, the program has.
    let connection = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=AA==;QueueEndpoint=http://127.0.0.1:1/a;\
                      TableEndpoint=http://127.0.0.1:1/a";
    let mut doctor = Command::new(tool);
    doctor.args(["doctor", "--connection", connection]).env_clear().current_dir(folder.path());
    let output = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    assert!(output.contains("ok     settings: can be read"), "{output}");
    assert!(output.contains("clock: storage cannot be reached"), "{output}");
}

/// A program that names a path of this machine is another one on every machine.
fn check_paths(program: &[u8]) {
    let home = env::var("HOME").unwrap();
    for path in [root().to_str().unwrap(), &format!("{home}/.cargo")] {
        let mut windows = program.windows(path.len());
        assert!(!windows.any(|window| window == path.as_bytes()), "the program names a path of this machine: {path}");
    }
}

/// Runs a command of this repository, which prints what it does.
fn run(arguments: &[&str]) {
    let status = Command::new(env!("CARGO")).args(arguments).current_dir(root()).status().unwrap();
    assert!(status.success(), "cargo {arguments:?}");
}
