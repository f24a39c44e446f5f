//! A disk that fails: the kernel makes its file system read-only under the gateway, which says so
//! and forwards nothing until the disk is repaired and mounted again. With a real ext4 on a loop
//! device, in a mount namespace of the gateway's own; that needs root.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use support::trail::{assert_whole, change};
use support::{BINARY, SAMPLE, World, wait_for};

const MOUNT: &str = "mount -t ext4 -o loop,errors=remount-ro";

/// A world whose trail is on an ext4 of its own.
fn on_ext4() -> World {
    World::with_command(
        |config| {
            *config = config.replace("directory = \"audit\"", "directory = \"disk/audit\"");
        },
        |config| {
            let (image, disk) = (config.with_file_name("image"), config.with_file_name("disk"));
            fs::create_dir(&disk).unwrap();
            fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
            assert!(Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap().success());
            let script = format!("{MOUNT} \"$1\" \"$2\" && exec \"$0\" serve --config \"$3\"");
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script, BINARY]).args([&image, &disk, config]);
            command
        },
    )
}

fn within(world: &World, script: &str) -> Output {
    let id = world.gateway.child.id().to_string();
    let folder = world.folder.path();
    let mut command = Command::new("nsenter");
    command.args(["--target", &id, "--mount", "sh", "-c", script, "sh"]);
    command.args([folder.join("image"), folder.join("disk")]).output().unwrap()
}

fn is_done(output: &Output) -> bool {
    output.status.success()
}

#[test]
fn a_file_system_that_the_kernel_makes_read_only_stops_the_forwarding_until_it_is_repaired() {
    let user = fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(user, 0, "only root can mount a file system");
    let world = on_ext4();
    world.gateway.wait_until_ready();
    change(&world);
    let device = within(&world, "findmnt -n -o SOURCE \"$2\"");
    let device = String::from_utf8(device.stdout).unwrap();
    let device = Path::new(device.trim()).file_name().unwrap().to_owned();
    let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
    fs::write(trigger, "1").unwrap();

    let (calls, token) = (world.cms.calls(), world.supervisor());
    for _ in 0..2 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    }
    assert_eq!(world.cms.calls(), calls);
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.contains("Read-only file system"), "{ready:?}");

    // The gateway holds nothing open there between its tries.
    wait_for("the unmounting", || is_done(&within(&world, "umount \"$2\"")));
    let repaired = within(&world, "e2fsck -f -p \"$1\"");
    assert!(matches!(repaired.status.code(), Some(0 | 1)), "{repaired:?}");
    assert!(is_done(&within(&world, &format!("{MOUNT} \"$1\" \"$2\""))));
    world.gateway.wait_until_ready();
    change(&world);
    let inside = format!("/proc/{}/root", world.gateway.child.id());
    assert_whole(Path::new(&(inside + world.folder.path().join("disk/audit").to_str().unwrap())));
}
