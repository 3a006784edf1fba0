"""The closed list of cloud-init: what is supported becomes a plan, anything else is refused by name."""

from __future__ import annotations

import base64

import pytest

from lab.vm.cloudinit import CloudInitError, MountEntry, Plan, missing_packages, parse


def document(body: str) -> bytes:
    return f"#cloud-config\n{body}".encode()


def test_empty_custom_data_is_an_empty_plan() -> None:
    assert parse(b"") == Plan()
    assert parse(document("")) == Plan()


def test_supported_keys_become_a_plan() -> None:
    plan = parse(
        document("""
write_files:
- {path: /etc/x, content: "secret\\n", permissions: "0600", owner: "root:adm"}
- {path: /etc/y, content: aGVsbG8=, encoding: b64, append: true, defer: true}
packages: [python3, curl]
disk_setup:
  /dev/disk/azure/scsi1/lun0: {table_type: gpt, layout: true, overwrite: false}
fs_setup:
- {device: /dev/disk/azure/scsi1/lun0, partition: auto, filesystem: ext4, overwrite: false, label: d}
mounts:
- [/dev/disk/azure/scsi1/lun0-part1, /data, ext4, "defaults,nofail", "0", "2"]
- [/dev/disk/azure/scsi1/lun1, /more]
runcmd:
- echo $HOME
- [echo, "two words", 3]
""")
    )
    first, second = plan.write_files
    assert (first.path, first.permissions, first.owner) == ("/etc/x", "0600", "root:adm")
    assert base64.b64decode(first.content_b64) == b"secret\n"
    assert (base64.b64decode(second.content_b64), second.append, second.defer) == (b"hello", True, True)
    assert plan.packages == ("python3", "curl")
    assert plan.mounts == (
        MountEntry("/dev/disk/azure/scsi1/lun0-part1", "/data", "ext4", "defaults,nofail"),
        MountEntry("/dev/disk/azure/scsi1/lun1", "/more", "auto", "defaults,nofail"),
    )
    assert plan.runcmd == "#!/bin/sh\necho $HOME\necho 'two words' 3\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("users: [x]", "key 'users' is not supported"),
        ("write_files: [{path: /x, contents: y}]", "key 'contents' is not supported"),
        ("write_files: [{path: x}]", "'x' is not an absolute path"),
        ("write_files: [{path: /x, permissions: rw}]", "no octal mode"),
        ("write_files: [{path: /x, encoding: rot13}]", "encoding 'rot13' is not supported"),
        ("write_files: {path: /x}", "must be a list"),
        ("packages: [[nginx, '1.0']]", "plain package names"),
        ("mounts: [/data]", "must be a list"),
        ("mounts: [[/dev/sdb, none]]", "not an absolute path"),
        ("fs_setup: [{device: /dev/x, overwrite: true}]", "would wipe a used disk"),
        ("disk_setup: {/dev/x: {overwrite: true}}", "would wipe a used disk"),
        ("runcmd: [{a: b}]", "neither a text nor a list"),
        ("a: [", "is no YAML"),
        ("- x", "must hold a mapping"),
    ],
)
def test_anything_else_is_refused_by_name(body: str, message: str) -> None:
    with pytest.raises(CloudInitError, match=message.replace("[", "\\[")):
        parse(document(body))


def test_custom_data_must_be_a_cloud_config_of_azures_size() -> None:
    with pytest.raises(CloudInitError, match="must begin with '#cloud-config'"):
        parse(b"#!/bin/sh\n")
    with pytest.raises(CloudInitError, match="65535"):
        parse(document("x" * 60_000))


def test_missing_packages_are_named() -> None:
    assert missing_packages(("a", "b"), installed=lambda name: name == "a") == ("b",)
